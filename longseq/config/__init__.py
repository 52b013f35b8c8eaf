"""argv → one checked, frozen `Config`: batch and kernel settled, what cannot act refused.

Read in this order:

flags       how a flag is declared and parsed
arguments   every flag there is, by subject, as dataclasses
optimizers  the optimizers there are
kernels     which attention kernel a run gets on this machine: the one it names, or the best
checks      what goes together: `parse_config(argv, world_size)`

Standard library only: a login node checks a run before anything is installed.
"""
