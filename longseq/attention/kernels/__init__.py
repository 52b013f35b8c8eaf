"""One module a kernel, each with one function `attend` (attention/kernel.py says what it takes).

core         the formula, a block of queries at a time: the reference
sdpa         torch's flash kernels, on CPUs and GPUs
cudnn        NVIDIA's, through torch, for Hopper GPUs and later
flash_v1, flash_v2, flash_v3, flash_v4, flex    packages for GPUs

A new one is a module here and a row in attention/limits.py.
"""
