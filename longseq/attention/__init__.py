"""Attention: its kernels and what each needs; which tokens of a sequence a rank of a ring holds.

Read in this order:

kernel       what a kernel takes and gives; `kernel(name)`
limits       the list of them, with what each needs: GPU, package, heads, precision
kernels/     one module a kernel: the reference, torch's own, the packages for GPUs
packing, seeding      documents end to end, and dropout from a seed, for those
blocks       flash attention of one block of queries and keys, and how blocks add up
chunked, host_chunks  attention made of blocks whose tensors wait in host memory
zigzag       which tokens of a sample each rank of a ring holds
exchange     what ranks that share a sample do around a kernel: here nothing
given        gradients of what is made again in backward

longseq/config/kernels.py chooses the best kernel for a run and refuses one that cannot do it.
"""
