"""flash-attn 2.x, whose versions and limits are in limits.py."""

from __future__ import annotations

import math

import torch
from flash_attn import flash_attn_varlen_func
from torch import Tensor

from longseq.attention.kernel import AttentionDropout, Documents
from longseq.attention.packing import pack, packing, unpack
from longseq.attention.seeding import seeded


def attend(
    q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: AttentionDropout | None
) -> Tensor:
    """Causal attention; q [s, b, heads, d], k and v [s, b, groups, d] → [s, b, heads, d]."""
    s, b, _, d = q.shape
    offsets, longest = packing(s, b, documents, q.device)
    with seeded(dropout, q.device) as probability:
        y: Tensor = flash_attn_varlen_func(
            pack(q),
            pack(k),
            pack(v),
            offsets,
            offsets,
            longest,
            longest,
            dropout_p=probability,
            softmax_scale=1 / math.sqrt(d),
            causal=True,
            deterministic=torch.are_deterministic_algorithms_enabled(),
        )
    return unpack(y, b)
