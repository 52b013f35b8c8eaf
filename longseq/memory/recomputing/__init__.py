"""What backward makes again. Read in this order:

pointwise           norms and activation functions of a layer, and nothing else
layer               all of it but attention, or all, from its input
tiles               some tokens of a sequence at a time
detached_attention  an attention kernel that runs once and whose inputs are dropped
offload             layer inputs that wait in host memory

engine/network/recompute.py puts them into the network.
"""
