"""Attention as the paper writes it, with the whole [s, s] in fp64: the measure of kernels."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from longseq.attention.kernel import Documents


def visible(s: int, b: int, documents: Documents) -> Tensor:
    """[b, s, s] bool: query, key."""
    seen = torch.zeros(b, s, s, dtype=torch.bool)
    for row in range(b):
        edges = [0, *(documents[row] if documents else ())]
        for start, stop in pairwise([*edges, s]):
            n = stop - start
            seen[row, start:stop, start:stop] = torch.ones(n, n, dtype=torch.bool).tril()
    return seen


def plain_weights(q: Tensor, k: Tensor, documents: Documents) -> Tensor:
    """[b, heads, s, s] fp64."""
    k = k.double().repeat_interleave(q.shape[2] // k.shape[2], 2)
    scores = torch.einsum("sbhd,tbhd->bhst", q.double(), k) / math.sqrt(q.shape[3])
    seen = visible(q.shape[0], q.shape[1], documents)[:, None].to(q.device)
    return scores.masked_fill(~seen, -torch.inf).softmax(-1)


def plain_attention(
    q: Tensor, k: Tensor, v: Tensor, documents: Documents, kept: Tensor | None = None
) -> Tensor:
    """[s, b, heads, d] fp64; `kept` [b, heads, s, s] multiplies the weights (dropout)."""
    weights = plain_weights(q, k, documents)
    if kept is not None:
        weights = weights * kept
    v = v.double().repeat_interleave(q.shape[2] // v.shape[2], 2)
    return torch.einsum("bhst,tbhd->sbhd", weights, v)
