"""Time for memory: what a rank need not keep, and an estimate of what it keeps.

Read in this order:

recompute_policy    what is recomputed, and what the flags say of it
job                 what a rank does, in the numbers that memory and time follow from
system              what a training system keeps and holds: ours
states              bytes that follow from parameters, activations from tokens
need                the estimator: bytes a rank needs, by kind, at the fullest of a step's moments
choosing            what is recomputed where the flags leave it open
recomputing/        what backward makes again
allocator           glibc told to give freed memory back
"""
