"""What is proved and measured where there is a GPU: run.sh does all of it.

steps        the list of them, in the order of their worth
all          runs them one after the other, each with its share of the time: what run.sh starts
results      what one step found, kept as it comes, and the options that every step has
training     a few steps of the trainer in this process, for what compares or measures them
kernels      step 1: every attention kernel against the core kernel on the CPU
against_cpu  step 2: training on the GPU against the CPU
savings      step 3: what is traded for memory against none of it, and what it saves
repeat       step 5: the same run twice, and one that was resumed, bit for bit
page         docs/gpu.md, made from results.json
"""
