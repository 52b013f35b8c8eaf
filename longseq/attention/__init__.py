"""Attention kernels: one module each, one function each, chosen by name.

    attend = kernel("sdpa")
    y = attend(q, k, v, documents, dropout)   # [s, b, heads, d] in and out

All are causal and divide the scores by √d. `documents` is one tuple of ascending boundaries a row
of the batch (0 < … ≤ s), or None: a token sees only earlier tokens of its own document. Fewer
key-value heads than query heads is grouped query attention. `dropout` is None, or the probability
and the seed of this call; forward and backward, and a call that is repeated, drop the same weights.

longseq/config/kernels.py says what each can do, and which one is the best on a machine.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from torch import Tensor

from longseq.errors import UserError

Documents = tuple[tuple[int, ...], ...] | None


class AttentionDropout(NamedTuple):
    """Probability of dropping a weight, and the seed that repeats the choice in recomputation."""

    probability: float
    seed: int


Kernel = Callable[[Tensor, Tensor, Tensor, Documents, AttentionDropout | None], Tensor]

MODULES = {
    "core": "core",
    "sdpa": "sdpa",
    "v1": "flash_v1",
    "v2": "flash_v2",
    "v3": "flash_v3",
    "triton": "flex",
}


def kernel(name: str) -> Kernel:
    """The kernel called `name`; raises UserError if the package behind it cannot be imported."""
    if name == "best":  # chosen before, but for GPUs whose driver is not NVIDIA's
        raise UserError(
            "--use-flash-attn-best (USE_FLASH_ATTN=1): the driver (libcuda.so.1) does not say which"
            " GPU this is: name a kernel, such as USE_FLASH_ATTN=sdpa"
        )
    try:
        attend: Kernel = import_module(f"longseq.attention.{MODULES[name]}").attend
    except ImportError as error:  # a missing package was refused before; this one does not load
        raise UserError(
            f"--use-flash-attn-{name} (USE_FLASH_ATTN={name}): its package does not load"
            f" ({' '.join(str(error).split())}): install it again, or use USE_FLASH_ATTN=sdpa"
        ) from error
    return attend
