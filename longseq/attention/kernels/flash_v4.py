"""FlashAttention-4, for Hopper and Blackwell GPUs: compiled at its first call, no dropout."""

from __future__ import annotations

from flash_attn.cute import flash_attn_func, flash_attn_varlen_func
from torch import Tensor

from longseq.attention.kernel import AttentionDropout, Documents
from longseq.attention.packing import attend_whole, flash_options, pack, packing, unpack


def attend(
    q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: AttentionDropout | None
) -> Tensor:
    """Causal attention; q [s, b, heads, d], k and v [s, b, groups, d] → [s, b, heads, d]."""
    assert dropout is None, "checks.py refuses attention dropout with this kernel"
    options = flash_options(q)
    if documents is None:
        return attend_whole(flash_attn_func, q, k, v, **options)
    s, b = q.shape[:2]
    offsets, longest = packing(s, b, documents, q.device)
    y, _ = flash_attn_varlen_func(
        *(pack(x) for x in (q, k, v)),
        cu_seqlens_q=offsets,
        cu_seqlens_k=offsets,
        max_seqlen_q=longest,
        max_seqlen_k=longest,
        **options,
    )
    return unpack(y, b)
