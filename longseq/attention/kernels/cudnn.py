"""Attention by NVIDIA's cuDNN, through torch: made for Hopper's and later GPUs' matrix units.

Whole samples only: cuDNN plans anew for each length that it meets, so that documents, whose lengths
never repeat, would take longer to plan than to compute.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from longseq.attention.kernel import AttentionDropout, Documents


def attend(
    q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: AttentionDropout | None
) -> Tensor:
    """Causal attention; q [s, b, heads, d], k and v [s, b, groups, d] → [s, b, heads, d]."""
    assert documents is None, "checks.py refuses documents with this kernel"
    assert dropout is None, "and dropout"
    q4, k4, v4 = (x.permute(1, 2, 0, 3) for x in (q, k, v))
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        y = F.scaled_dot_product_attention(
            q4,
            k4,
            v4,
            is_causal=True,
            enable_gqa=q.shape[2] != k.shape[2],
        )
    return y.permute(2, 0, 1, 3)
