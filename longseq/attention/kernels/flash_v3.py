"""FlashAttention-3, for Hopper GPUs: no dropout."""

from __future__ import annotations

from flash_attn_interface import flash_attn_func, flash_attn_varlen_func
from torch import Tensor

from longseq.attention.kernel import AttentionDropout, Documents
from longseq.attention.packing import attend_packed, attend_whole, flash_options


def attend(
    q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: AttentionDropout | None
) -> Tensor:
    """Causal attention; q [s, b, heads, d], k and v [s, b, groups, d] → [s, b, heads, d]."""
    assert dropout is None, "checks.py refuses attention dropout with this kernel"
    options = flash_options(q)
    if documents is None:
        return attend_whole(flash_attn_func, q, k, v, **options)
    return attend_packed(flash_attn_varlen_func, q, k, v, documents, **options)
