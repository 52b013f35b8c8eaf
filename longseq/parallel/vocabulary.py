"""Embedding tables and the loss with the vocabulary sharded over the tensor-parallel ranks.

TableParallelEmbedding   rows of a table (tokens or positions), [s, b] → [s/tp or s, b, h]
VocabularyExchange       what ranks that hold some rows each do around the logits
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from longseq.model.loss import HeadExchange
from longseq.model.tables import rows_of
from longseq.parallel.collectives import all_gather, all_reduce, reduce_scatter
from longseq.parallel.mesh import Group
from longseq.parallel.sharding import Sharding, shard_parameter
from longseq.parallel.tensor import sum_out


class _GatherTable(torch.autograd.Function):
    """[n/tp, h] → [n, h]; the gradient is summed and scattered back."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, group: Group) -> Tensor:
        """[n/tp, h] → [n, h]."""
        ctx.group = group
        return all_gather(table, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """[n, h] → [n/tp, h]."""
        return reduce_scatter(grad, ctx.group), None


def shard_table(table: Tensor, group: Group) -> nn.Parameter:
    """This rank's rows of an embedding or head, whole [n, h]."""
    return shard_parameter(table, Sharding(0, (table.shape[0],), group.rank, group.size))


class TableParallelEmbedding(nn.Embedding):
    """An embedding whose rows are sharded over the group.

    With sequence parallelism a rank gathers the table and looks up only its own tokens: over long
    sequences the table is far smaller than partial sums [s, b, h] of every token would be. Without
    it, what the ranks find is added up here if it `joins`, else by whoever asks.
    """

    def __init__(
        self, plain: nn.Embedding, group: Group, sequence_parallel: bool, joins: bool = True
    ) -> None:
        mine = shard_table(plain.weight, group)
        super().__init__(mine.shape[0], mine.shape[1], _weight=mine)
        self.weight = mine  # Embedding has made a parameter of it, without the mark of the sharding
        self.group, self.sequence_parallel, self.joins = group, sequence_parallel, joins

    def forward(self, ids: Tensor) -> Tensor:
        """ids [s, b], the same on all ranks → [s/tp, b, h] where the sequence is split."""
        if self.sequence_parallel:
            mine = ids.chunk(self.group.size)[self.group.rank]
            return rows_of(_GatherTable.apply(self.weight, self.group), mine)
        found = rows_of(self.weight, ids - self.weight.shape[0] * self.group.rank)
        return sum_out(found, self.group) if self.joins else found


class VocabularyExchange(HeadExchange):
    """Each rank of the group holds V/tp rows of the table.

    Under sequence parallelism (`split`) it also holds only s/tp of the tokens, which are gathered
    for the logits; without it the hidden states are whole on every rank.
    """

    def __init__(self, group: Group, split: bool) -> None:
        self.group, self.split = group, split
        self.parts = group.size if split else 1

    def first_row(self, rows: int) -> int:
        return rows * self.group.rank

    def gather_tokens(self, hidden: Tensor) -> Tensor:
        """[s/tp, b, h] → [s, b, h] where the tokens are split, else as it is."""
        return all_gather(hidden, self.group) if self.split else hidden

    def gather_tokens_gradient(self, d_hidden: Tensor) -> Tensor:
        """[s, b, h] of this rank's rows → the sum over all rows, [s/tp, b, h] where split."""
        collect = reduce_scatter if self.split else all_reduce
        return collect(d_hidden, self.group)

    def gather_vocabulary(self, logits: Tensor) -> Tensor:
        """[…, V/tp] → […, V]."""
        return all_gather(logits.movedim(-1, 0), self.group).movedim(0, -1)

    def maximum(self, x: Tensor) -> Tensor:
        """The largest over the group, x of any shape, in place."""
        return all_reduce(x, self.group, maximum=True)

    def total(self, x: Tensor) -> Tensor:
        """The sum over the group, x of any shape, in place."""
        return all_reduce(x, self.group)
