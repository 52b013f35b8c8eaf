"""argv → one checked, frozen `Config`: batch and kernel settled, what cannot act refused.

Read in this order:

flags       how a flag is declared and parsed
megatron    arguments of Megatron-DeepSpeed that are none here, and what to do instead
network     the flags of the network, and the sizes that follow from them
memory      those of what is traded for memory, and of the attention kernel
arguments   every other flag, by subject, as dataclasses
split       what --split asks for: exact shares
optimizers  the optimizers there are
kernels     which attention kernel a run gets on this machine: the one it names, or the best
shape_checks    what has to divide by what: ranks, heads, the sequence, the batch
companions  flags that act with another one only
checks      what goes together: `parse_config(argv, world_size)`

Standard library only: a login node checks a run before anything is installed.
"""
