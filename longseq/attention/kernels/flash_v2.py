"""flash-attn 2.x, whose versions and limits are in limits.py."""

from __future__ import annotations

from flash_attn import flash_attn_varlen_func
from torch import Tensor

from longseq.attention.kernel import AttentionDropout, Documents
from longseq.attention.packing import attend_packed, flash_options
from longseq.attention.seeding import seeded


def attend(
    q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: AttentionDropout | None
) -> Tensor:
    """Causal attention; q [s, b, heads, d], k and v [s, b, groups, d] → [s, b, heads, d]."""
    with seeded(dropout, q.device) as probability:
        options = flash_options(q) | {"dropout_p": probability}
        return attend_packed(flash_attn_varlen_func, q, k, v, documents, **options)
