"""Time for memory: what a rank need not keep. Read in this order:

recompute_policy    what is recomputed, by flag or by estimate
recompute           a layer of which only the input is kept
tiles               some tokens of a sequence at a time
detached_attention  an attention kernel that runs once and whose inputs are dropped
offload             layer inputs that wait in host memory
allocator           glibc told to give freed memory back

engine/recompute.py puts them into the network.
"""
