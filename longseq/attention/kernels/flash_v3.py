"""FlashAttention-3, for Hopper GPUs: no dropout."""

from __future__ import annotations

import math

import torch
from flash_attn_interface import flash_attn_varlen_func
from torch import Tensor

from longseq.attention.kernel import AttentionDropout, Documents
from longseq.attention.packing import pack, packing, unpack


def attend(
    q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: AttentionDropout | None
) -> Tensor:
    """Causal attention; q [s, b, heads, d], k and v [s, b, groups, d] → [s, b, heads, d]."""
    assert dropout is None, "checks.py refuses attention dropout with this kernel"
    s, b, _, d = q.shape
    offsets, longest = packing(s, b, documents, q.device)
    y: Tensor | tuple[Tensor, ...] = flash_attn_varlen_func(
        pack(q),
        pack(k),
        pack(v),
        offsets,
        offsets,
        longest,
        longest,
        softmax_scale=1 / math.sqrt(d),
        causal=True,
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )
    return unpack(y if isinstance(y, Tensor) else y[0], b)  # its betas gave log-sum-exp as well
