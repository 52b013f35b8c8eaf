"""What ranks do together: one module an axis. Read in this order:

mesh         which rank belongs to which groups; a group of one needs no `if`
collectives  every exchange between ranks: reduce, gather, scatter, all-to-all, shift
mpi          the same over MPI's shared memory, for CPU ranks of one host
sharding     which piece of a whole parameter a rank holds
tensor       Megatron's tensor parallelism, and its sequence parallelism
vocabulary   embedding tables and the head's logits with the vocabulary sharded
ulysses      sequence swapped for heads around attention
ring         attention whose keys and values go round
agreement    small things that ranks tell each other outside the step

engine/network/parallelize.py puts them into a plain network.
"""
