"""Embedding tables and the loss with the vocabulary cut over the tensor-parallel ranks.

    TableParallelEmbedding   rows of a table (tokens or positions), [s, b] → [s/tp or s, b, h]
    tiled_cross_entropy      Σ weight · cross entropy of a head, tile by tile over the sequence

The logits of the whole sequence never exist: a tile's logits are made, turned into loss and
gradient, and dropped, in forward (they would be made twice if the gradient waited for backward).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longseq.parallel.collectives import all_gather, all_reduce, reduce_scatter
from longseq.parallel.mesh import Group
from longseq.parallel.sharding import Sharding, shard_parameter
from longseq.parallel.tensor import sum_out

# fp32 logits of one tile: near the size of a last-level cache, or what fills a GPU
TILE_BYTES = {"cpu": 32 * 2**20, "gpu": 512 * 2**20}
# Numbers of a tile's share of the table's gradient that exist at once beside the fp32 sum
BLOCK = {"cpu": 2**20, "gpu": 2**26}
TILE_TOKENS = 4096  # at most, for vocabularies so small that the cache would hold a whole sequence


class _GatherTable(torch.autograd.Function):
    """[n/tp, h] → [n, h]; the gradient is summed and scattered back."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return all_gather(table, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return reduce_scatter(grad, ctx.group), None


def shard_table(table: Tensor, group: Group) -> nn.Parameter:
    """This rank's rows of an embedding or head, whole [n, h]."""
    return shard_parameter(table, Sharding(0, (table.shape[0],), group.rank, group.size))


class _Rows(torch.autograd.Function):
    """Rows of a table [n, h], zero where an id is outside of it; keeps the ids alone."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.rows = table.shape[0]
        found = F.embedding(ids.clamp(0, ctx.rows - 1), table)
        return found.masked_fill_(((ids < 0) | (ids >= ctx.rows))[..., None], 0.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (ids,) = ctx.saved_tensors
        outside = (ids < 0) | (ids >= ctx.rows)
        ids = ids.masked_fill(outside, ctx.rows)  # the padding, which takes no gradient
        whole = torch.ops.aten.embedding_dense_backward(
            grad.contiguous(), ids, ctx.rows + 1, ctx.rows, False
        )
        return whole[:-1], None


def rows_of(table: Tensor, ids: Tensor) -> Tensor:
    """table [n, h], ids any shape → [*ids, h]; zeros where an id is not in 0 … n - 1."""
    rows: Tensor = _Rows.apply(table, ids)
    return rows


class TableParallelEmbedding(nn.Module):
    """An embedding whose rows are cut over the group.

    With sequence parallelism a rank gathers the table and looks up only its own tokens: over long
    sequences the table is far smaller than partial sums [s, b, h] of every token would be. Without
    it, what the ranks find is added up here if it `joins`, else by whoever asks.
    """

    def __init__(
        self, plain: Any, group: Group, sequence_parallel: bool, joins: bool = True
    ) -> None:
        super().__init__()
        self.weight = shard_table(plain.weight, group)
        self.group, self.sequence_parallel, self.joins = group, sequence_parallel, joins

    def forward(self, ids: Tensor) -> Tensor:
        """ids [s, b], the same on all ranks → [s/tp, b, h] where the sequence is split."""
        if self.sequence_parallel:
            mine = ids.chunk(self.group.size)[self.group.rank]
            return rows_of(_GatherTable.apply(self.weight, self.group), mine)
        found = rows_of(self.weight, ids - self.weight.shape[0] * self.group.rank)
        return sum_out(found, self.group) if self.joins else found


class _TiledCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        table: Tensor,
        labels: Tensor,
        weights: Tensor,
        vocabulary: int,
        group: Group,
        split: bool,
    ) -> Tensor:
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        batch = hidden.shape[1]
        kind = "cpu" if hidden.is_cpu else "gpu"
        tile = min(TILE_BYTES[kind] // (4 * table.shape[0] * batch), TILE_TOKENS // batch)
        rows = hidden.shape[0]
        parts = group.size if split else 1
        tile = max(1, tile // parts)
        labels, weights = labels.unflatten(0, (parts, rows)), weights.unflatten(0, (parts, rows))
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if wanted else None
        d_table = torch.zeros_like(table, dtype=torch.float32) if wanted else None
        scatter = reduce_scatter if split else all_reduce
        for start in range(0, rows, tile):
            here = slice(start, min(start + tile, rows))
            h = all_gather(hidden[here], group) if split else hidden[here]
            h = h.flatten(0, 1)
            part, d_logits = _tile_loss(
                h @ table.t(),
                labels[:, here].flatten(),
                weights[:, here].flatten(),
                vocabulary,
                group,
            )
            loss += part
            if d_hidden is not None and d_table is not None:
                d_logits = d_logits.to(table.dtype)
                d_h = (d_logits @ table).view(-1, *hidden.shape[1:])
                d_hidden[here] = scatter(d_h, group)
                _add_product(d_table, d_logits, h, max(1, BLOCK[kind] // h.shape[1]))
        if d_hidden is not None and d_table is not None:
            ctx.save_for_backward(d_hidden, d_table.to(table.dtype))
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_table = ctx.saved_tensors
        return d_hidden.mul_(grad), d_table.mul_(grad), None, None, None, None, None


def _add_product(total: Tensor, d_logits: Tensor, h: Tensor, rows: int) -> None:
    """total [V, h] fp32 += d_logits [n, V]ᵀ · h [n, h]; in half precision some rows at a time."""
    if h.dtype == torch.float32:
        total.addmm_(d_logits.t(), h)
        return
    for some, part in zip(total.split(rows), d_logits.split(rows, 1), strict=True):
        some += part.t() @ h


def _tile_loss(
    logits: Tensor, labels: Tensor, weights: Tensor, vocabulary: int, group: Group
) -> tuple[Tensor, Tensor]:
    """Loss and its gradient [n, V/tp] (fp32) of one tile; the padding rows get probability 0."""
    logits = logits.float()
    columns = logits.shape[1]
    first = columns * group.rank
    real = min(max(vocabulary - first, 0), columns)
    logits[:, real:] = -torch.inf
    top = all_reduce(logits.amax(-1), group, maximum=True)
    logits.sub_(top[:, None])
    local = labels - first
    elsewhere = (local < 0) | (local >= columns)
    local = local.masked_fill(elsewhere, 0)[:, None]
    target = logits.gather(1, local)[:, 0].masked_fill(elsewhere, 0.0)
    logits.exp_()
    target, total = all_reduce(torch.stack((target, logits.sum(-1))), group)
    loss = torch.dot(total.log() - target, weights)
    logits.mul_((weights / total)[:, None])
    logits.scatter_add_(1, local, -weights.masked_fill(elsewhere, 0.0)[:, None])
    return loss, logits


def tiled_cross_entropy(
    hidden: Tensor,
    table: Tensor,
    labels: Tensor,
    weights: Tensor,
    vocabulary: int,
    group: Group,
    split: bool,
) -> Tensor:
    """Σ weights · cross entropy, a scalar, the same on every rank of the group.

    hidden [s/tp or s, b, h] (`split` says which), table [V/tp, h], labels and weights [s, b].
    Rows of the table from `vocabulary` on are padding and take no part.
    """
    return _TiledCrossEntropy.apply(hidden, table, labels, weights, vocabulary, group, split)
