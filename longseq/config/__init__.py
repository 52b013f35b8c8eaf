"""argv → one checked, frozen `Config` that everything else is given. Read in this order:

flags       how a flag is declared and parsed
arguments   every flag there is, by subject, as dataclasses
kernels     which attention kernel can do what on which GPU, and which is the best here
checks      what goes together: `parse_config(argv, world_size)`

Standard library only: a login node checks a run before anything is installed.
"""
