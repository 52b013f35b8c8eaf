"""flash-attn 1.x, for machines that have kept it. It has no grouped heads, so they are repeated."""

from __future__ import annotations

import math

import torch
from flash_attn.flash_attn_interface import flash_attn_unpadded_func
from torch import Tensor

from longseq.attention.kernel import AttentionDropout, Documents
from longseq.attention.packing import pack, packing, unpack
from longseq.attention.seeding import seeded


def attend(
    q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: AttentionDropout | None
) -> Tensor:
    """Causal attention; q [s, b, heads, d], k and v [s, b, groups, d] → [s, b, heads, d]."""
    s, b, heads, d = q.shape
    repeat = heads // k.shape[2]
    if repeat > 1:
        k, v = (x.repeat_interleave(repeat, 2) for x in (k, v))
    offsets, longest = packing(s, b, documents, q.device)
    with seeded(dropout, q.device) as probability:
        y: Tensor = flash_attn_unpadded_func(
            pack(q),
            pack(k),
            pack(v),
            offsets,
            offsets,
            longest,
            longest,
            probability,
            softmax_scale=1 / math.sqrt(d),
            causal=True,
            deterministic=torch.are_deterministic_algorithms_enabled(),
        )
    return unpack(y, b)
