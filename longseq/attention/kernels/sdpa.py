"""Attention by torch's own flash kernels, on CPU and CUDA: memory grows with s, not s².

`is_causal` without a mask keeps the flash kernel; a mask would cost s² memory and 2.5 times the
forward time on CPU. Documents are therefore attended one by one, or, in half precision on CUDA, by
torch's variable-length kernel.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from longseq.attention.kernel import AttentionDropout, Documents
from longseq.attention.packing import attend_packed, starts
from longseq.attention.seeding import seeded

HALF = (torch.float16, torch.bfloat16)


def attend(
    q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: AttentionDropout | None
) -> Tensor:
    """Causal attention; q [s, b, heads, d], k and v [s, b, groups, d] → [s, b, heads, d]."""
    flash = not q.is_cuda or has_flash(q)
    if not flash:  # what torch then takes knows no groups, or else holds [s, s]
        k, v = (x.repeat_interleave(q.shape[2] // x.shape[2], 2) for x in (k, v))
    if documents is None:
        return _causal(q, k, v, dropout)
    varlen = variable_length()
    if q.is_cuda and flash and varlen and q.shape[-1] % 8 == 0 and dropout is None:
        return packed(varlen, q, k, v, documents)
    rows = range(q.shape[1])
    return torch.cat([_one_by_one(q, k, v, documents, row, dropout) for row in rows], 1)


def has_flash(q: Tensor) -> bool:
    """Does torch's flash kernel take q [s, b, heads, d]? d above 192 not on every GPU."""
    able = torch.cuda.get_device_capability(q.device) >= (8, 0)
    return able and q.dtype in HALF and q.shape[-1] <= 192


@lru_cache(maxsize=1)
def variable_length() -> Callable[..., Any] | None:
    """torch's variable-length attention, where this torch has it in today's form."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    known = inspect.signature(varlen_attn).parameters
    return varlen_attn if {"window_size", "enable_gqa"} <= set(known) else None


def packed(
    varlen: Callable[..., Any], q: Tensor, k: Tensor, v: Tensor, documents: Documents
) -> Tensor:
    """All documents of all rows in one call; shapes as in `attend`."""
    options = {
        "scale": 1 / math.sqrt(q.shape[-1]),
        "window_size": (-1, 0),  # all that came before
        "enable_gqa": q.shape[2] != k.shape[2],
    }
    return attend_packed(varlen, q, k, v, documents, **options)


def _one_by_one(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    documents: Documents,
    row: int,
    dropout: AttentionDropout | None,
) -> Tensor:
    """One row, [s, 1, heads, d], a call for each document; dropout takes another seed in each."""
    s, results = q.shape[0], []
    edges = (*starts(s, documents, row), s)
    lengths = [stop - start for start, stop in pairwise(edges)]
    pieces = zip(*(x[:, row : row + 1].split(lengths) for x in (q, k, v)), strict=True)
    for start, (a, b, c) in zip(edges, pieces, strict=False):
        drop = dropout and dropout._replace(seed=(dropout.seed + row * s + start) % 2**63)
        results.append(_causal(a, b, c, drop))
    return torch.cat(results)


def _causal(q: Tensor, k: Tensor, v: Tensor, dropout: AttentionDropout | None) -> Tensor:
    """One call of the kernel, which wants [b, heads, s, d]: views only, nothing is copied."""
    q4, k4, v4 = (x.permute(1, 2, 0, 3) for x in (q, k, v))
    with seeded(dropout, q.device) as probability:
        y = F.scaled_dot_product_attention(
            q4,
            k4,
            v4,
            dropout_p=probability,
            is_causal=True,
            enable_gqa=q.shape[2] != k.shape[2],
        )
    return y.permute(2, 0, 1, 3)
