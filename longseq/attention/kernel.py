"""What an attention kernel is, and how to get one by its name.

    attend = kernel("sdpa")
    y = attend(q, k, v, documents, dropout)   # [s, b, heads, d] in and out

All kernels are causal and divide the scores by √d. Fewer key-value heads than query heads is
grouped query attention: k and v are [s, b, groups, d].
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from torch import Tensor

from longseq.attention.limits import KERNELS
from longseq.errors import UserError

# Ascending boundaries for each row of the batch, 0 < … ≤ s: a token sees only earlier tokens of its
# own document. The last document of a row ends with the row, whether s is among its boundaries or
# not. None: a row is one document.
Documents = tuple[tuple[int, ...], ...] | None


class AttentionDropout(NamedTuple):
    """Probability of dropping a weight, and the seed of this call.

    Forward and backward, and a call that recomputation repeats, drop the same weights.
    """

    probability: float
    seed: int


Kernel = Callable[[Tensor, Tensor, Tensor, Documents, AttentionDropout | None], Tensor]


def kernel(name: str) -> Kernel:
    """The kernel called `name`; raises UserError if the package behind it cannot be imported."""
    if name == "best":  # chosen before, but for GPUs whose driver is not NVIDIA's
        raise UserError(
            "--use-flash-attn-best (USE_FLASH_ATTN=1): the driver (libcuda.so.1) does not say which"
            " GPU this is: name a kernel, such as USE_FLASH_ATTN=sdpa"
        )
    try:
        attend: Kernel = import_module(f"longseq.attention.kernels.{KERNELS[name].module}").attend
    except ImportError as error:  # a missing package was refused before; this one does not load
        raise UserError(
            f"--use-flash-attn-{name} (USE_FLASH_ATTN={name}): its package does not load"
            f" ({' '.join(str(error).split())}): install it again, or use USE_FLASH_ATTN=sdpa"
        ) from error
    return attend
