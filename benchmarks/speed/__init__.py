"""Time of steps and of their parts, mostly as a ratio of runs in turn.

one_rank, two_ranks    tokens a second, against plain PyTorch and against one rank
axes, ring_balance     a sequence split over ranks, and how even a ring's work is
step_parts, attention_share    where a step's time goes
tiling, offload, pointwise     what saving memory costs, and what compiling would bring
documents              attention to many documents in one sample
collectives            exchanges between two CPU ranks, over gloo and over MPI
launcher               the time before the ranks run
"""
