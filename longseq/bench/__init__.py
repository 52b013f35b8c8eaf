"""`longseq bench`: lengths x layouts x networks x kernels, each a run of its own

case       one run of a bench, what is asked of ALCF/train-gpt3.sh for it, and which comes first
kept       what was found, a line a case, so that a bench that was ended goes on
running    one case from its start to what became of it
sweep      all cases: progress, time left, what need not be run any more
longest    the longest sequence of each layout, by doubling and bisection
published  what the predecessor's users published
tables     the published forms, on the terminal and as CSV and JSON
pictures   the same as SVG and PNG, and the page
command    the verb
"""
