"""Time of steps and of their parts, mostly as a ratio of runs in turn.

one_rank      tokens a second, against plain PyTorch; what offload of the optimizer costs
pairs         two ways to run a step: two ranks and one, split sequences and none, tiles and whole
step_parts    where a step's time goes, beside bare matmul and bare attention
pointwise     what compiling would bring
documents, ring_balance    attention to many documents in one sample, and how even a ring's work is
collectives   exchanges between two CPU ranks, over gloo and over MPI
launcher      the time before the ranks run
preflight     what looking at all hosts takes, by their number
marks         what measuring the parts of a step costs
"""
