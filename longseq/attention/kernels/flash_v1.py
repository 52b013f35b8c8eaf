"""flash-attn 1.x, for machines that have kept it. It has no grouped heads, so they are repeated."""

from __future__ import annotations

from flash_attn.flash_attn_interface import flash_attn_unpadded_func
from torch import Tensor

from longseq.attention.kernel import AttentionDropout, Documents
from longseq.attention.packing import attend_packed, flash_options
from longseq.attention.seeding import seeded


def attend(
    q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: AttentionDropout | None
) -> Tensor:
    """Causal attention; q [s, b, heads, d], k and v [s, b, groups, d] → [s, b, heads, d]."""
    repeat = q.shape[2] // k.shape[2]
    if repeat > 1:
        k, v = (x.repeat_interleave(repeat, 2) for x in (k, v))
    with seeded(dropout, q.device) as probability:
        options = flash_options(q) | {"dropout_p": probability}
        return attend_packed(flash_attn_unpadded_func, q, k, v, documents, **options)
