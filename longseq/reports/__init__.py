"""Tables, plots and the page about a run. Read in this order:

command     `longseq report RUN…`
runs        a run read back from its folder
page        report.html, one run on one page, from the files in web/
curves      the numbers that web/curves.js draws with uPlot;  plots: the same without JavaScript
sections    what the page tells in tables
columns     figures of runs on a terminal of any width
compare     several runs side by side, on the terminal and on one page;  together: their pictures
format      numbers as people read them, and what is said of those that are none
live/       runs and jobs as they go, in a terminal
completion  what bash and zsh complete: `longseq completion`
flag_table  docs/flags.md, every flag with its default: `longseq flags`
"""
