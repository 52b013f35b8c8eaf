"""Attention written out: the reference, and the only one whose weights can be looked at.

Scores are made for a block of queries at a time, with the keys that the block may see, and made
again in backward, so that nothing of [s, s] ever exists. A block's mask is built in CPU memory as
booleans and moved, so that the device holds no integer mask beside the scores.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from longseq.attention.given import gradients
from longseq.attention.kernel import AttentionDropout, Documents

BLOCK_BYTES = 32 << 20  # of fp32 scores in a block: small beside the model, large for a matmul
FEWEST_ROWS = 16


def attend(
    q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: AttentionDropout | None
) -> Tensor:
    """softmax(q kᵀ / √d) v in fp32 softmax; q [s, b, heads, d], k and v [s, b, groups, d]."""
    y: Tensor = _Core.apply(q, k, v, documents, dropout)
    return y


class _Core(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        documents: Documents,
        dropout: AttentionDropout | None,
    ) -> Tensor:
        """q [s, b, heads, d], k and v [s, b, groups, d] → [s, b, heads, d]."""
        ctx.save_for_backward(q, k, v)
        ctx.documents, ctx.dropout = documents, dropout
        blocks = _blocks(q.shape, documents)
        return torch.cat(
            [_block(q[b.rows], k[b.keys], v[b.keys], b, documents, dropout) for b in blocks]
        )

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """dy [s, b, heads, d] → gradients in the shapes of q, k and v."""
        inputs = ctx.saved_tensors
        sums = [torch.zeros(x.shape, dtype=torch.float32, device=x.device) for x in inputs]
        for block in _blocks(dy.shape, ctx.documents):
            places = block.rows, block.keys, block.keys
            parts = [
                x[place].detach().requires_grad_() for x, place in zip(inputs, places, strict=True)
            ]
            with torch.enable_grad():
                y = _block(parts[0], parts[1], parts[2], block, ctx.documents, ctx.dropout)
            found = gradients([y], parts, [dy[block.rows]])
            for total, place, part in zip(sums, places, found, strict=True):
                assert part is not None  # the output depends on all three
                total[place] += part
        return *(d.to(x.dtype) for d, x in zip(sums, inputs, strict=True)), None, None


class ScoreBlock(NamedTuple):
    """Queries that are worked on together, and the keys that any of them sees."""

    rows: slice
    keys: slice


def _blocks(shape: torch.Size, documents: Documents) -> Iterator[ScoreBlock]:
    """The blocks of queries [s, b, heads, d]."""
    s, b, heads, _ = shape
    tile = min(s, max(FEWEST_ROWS, BLOCK_BYTES // (4 * s * b * heads)))
    for start in range(0, s, tile):
        stop = min(start + tile, s)
        yield ScoreBlock(slice(start, stop), slice(min(first_visible(start, documents)), stop))


def first_visible(token: int, documents: Documents) -> list[int]:
    """Where the document that holds `token` starts, in each row of the batch."""
    if documents is None:
        return [0]
    return [(0, *edges)[bisect_right(edges, token)] for edges in documents]


def forbidden(block: ScoreBlock, documents: Documents) -> Tensor:
    """Which keys the queries of `block` must not see, [b or 1, 1, 1, rows, keys] bool, CPU."""
    query = torch.arange(block.rows.start, block.rows.stop)[:, None]
    key = torch.arange(block.keys.start, block.keys.stop)
    hidden = (key > query)[None]
    if documents is not None:
        starts = [torch.tensor((0, *edges)) for edges in documents]
        own = [x[torch.searchsorted(x, query, right=True) - 1] for x in starts]
        hidden = hidden | (key < torch.stack(own))
    return hidden[:, None, None]


def _block(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    block: ScoreBlock,
    documents: Documents,
    dropout: AttentionDropout | None,
) -> Tensor:
    """Queries [rows, b, heads, d] over the keys that they may see [keys, b, groups, d]."""
    grouped = q.unflatten(2, (k.shape[2], -1))  # the query heads of each key-value head
    scores = torch.einsum("sbgrd,tbgd->bgrst", grouped, k) / math.sqrt(q.shape[-1])
    hidden = forbidden(block, documents).to(scores.device, non_blocking=True)
    weights = scores.float().masked_fill(hidden, -torch.inf).softmax(-1).to(v.dtype)
    if dropout is not None:
        weights = _drop(weights, dropout.probability, dropout.seed + block.rows.start)
    return torch.einsum("bgrst,tbgd->sbgrd", weights, v).flatten(2, 3)


def _drop(weights: Tensor, probability: float, seed: int) -> Tensor:
    """weights of any shape; the same are dropped whenever this block is computed."""
    generator = torch.Generator(weights.device).manual_seed(seed % 2**63)
    keep = torch.empty_like(weights).bernoulli_(1 - probability, generator=generator)
    return weights * keep / (1 - probability)
