"""The flags of what is traded for memory, and of the attention kernel.

Standard library only, as all of config/.
"""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from typing import TYPE_CHECKING

from longseq.attention.limits import KERNELS
from longseq.config.flags import flag
from longseq.errors import UserError

# Every kernel that has a flag, and its help; the core kernel runs where none is given
KERNEL_FLAGS = {name: limits.flag for name, limits in KERNELS.items() if limits.flag} | {
    "best": "attention by the best kernel that there is here"
}

if TYPE_CHECKING:

    class KernelFlags:
        """--use-flash-attn-NAME for each kernel; `Memory.kernel` says which one is given."""

else:
    KernelFlags = make_dataclass(
        "KernelFlags",
        [
            (f"use_flash_attn_{name}", bool, flag(False, text))
            for name, text in KERNEL_FLAGS.items()
        ],
        frozen=True,
        namespace={"__doc__": "The attention kernel, else the best there is."},
    )


@dataclass(frozen=True)
class Memory(KernelFlags):
    """What is traded for memory, and the attention kernel."""

    checkpoint_activations: bool = flag(False, "the same as --recompute-granularity full")
    recompute_granularity: str = flag(
        "auto",
        "what backward makes again: attention scores (selective), norms and activation functions"
        " (pointwise), all but attention, or whole layers (full); auto: as little as memory allows",
        choices=("auto", "none", "selective", "pointwise", "outside-attention", "full"),
    )
    recompute_method: str = flag(
        "uniform",
        "uniform: all layers, from the input of every --recompute-num-layers-th;"
        " block: the first --recompute-num-layers only",
        choices=("uniform", "block"),
    )
    recompute_num_layers: int = flag(1, "layers of a group, or of the block", low=1)
    tile_size: int = flag(
        0,
        "tokens that recomputed layers work on at once outside attention;"
        " 0: 2^24 numbers of hidden states, more where tensor-parallel ranks share them; on a CPU"
        " a 16th of a rank's tokens, 256 to 2048",
        low=0,
    )
    ds_sequence_parallel_fpdt: bool = flag(False, "attention in chunks of the sequence")
    ds_sequence_parallel_fpdt_chunk_size: int = flag(65536, "tokens of a chunk", low=1)
    ds_sequence_parallel_fpdt_offloading: bool = flag(
        False, "queries, keys and values of the chunks wait in host memory (GPU)"
    )
    checkpoint_in_cpu: bool = flag(False, "kept layer inputs wait in host memory (GPU)")
    chosen: str = ""  # the best kernel's name, where it was asked for; kernels.py sets it

    @property
    def recomputes_layers(self) -> bool:
        """Whether the flags themselves ask for layers to be made again."""
        asked = self.recompute_granularity in ("full", "outside-attention")
        return asked or self.checkpoint_activations

    @property
    def kernel(self) -> str:
        """The attention kernel's name; "best" until it is known which one that is."""
        if self.chosen:
            return self.chosen
        chosen = [k for k in KERNEL_FLAGS if getattr(self, f"use_flash_attn_{k}")]
        if len(chosen) > 1:
            both = " and ".join(f"--use-flash-attn-{k}" for k in chosen)
            raise UserError(f"{both} exclude each other: give one, of USE_FLASH_ATTN too")
        return chosen[0] if chosen else "core"
