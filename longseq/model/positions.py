"""Learned positions, a table in blocks of rows: a rank that gathers it (ZeRO stage 3, tensor
parallelism with a split sequence) holds one block at a time, never a row for every token.

    table = Positions(131072, 512)
    x = x + table(ids)                  # [s, b] → [s, b, h]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longseq.config.network import position_block


class _Rows(torch.autograd.Function):
    """Rows of a table [n, h], zero where an id is outside of it; keeps the ids alone."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor) -> Tensor:
        """table [n, h], ids of any shape → [*ids, h]."""
        ctx.save_for_backward(ids)
        ctx.rows = table.shape[0]
        found = F.embedding(ids.clamp(0, ctx.rows - 1), table)
        return found.masked_fill_(((ids < 0) | (ids >= ctx.rows))[..., None], 0.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """[*ids, h] → [n, h]."""
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


class PositionBlock(nn.Embedding):
    """Some rows of a table, whose values come later."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__(rows, width, _weight=torch.empty(rows, width))

    def forward(self, ids: Tensor) -> Tensor:
        """ids [s, b] → [s, b, h], zeros for ids outside of the block."""
        return rows_of(self.weight, ids)


class Positions(nn.Module):
    """A table of `rows` learned positions; `join` is what parallel ranks add their parts with."""

    blocks: Sequence[nn.Embedding]  # an nn.ModuleList, which torch types as a list of any modules

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.rows = position_block(rows)
        starts = range(0, rows, self.rows)
        blocks = [PositionBlock(min(self.rows, rows - start), width) for start in starts]
        self.blocks = nn.ModuleList(blocks)  # type: ignore[assignment]
        self.join: Callable[[Tensor], Tensor] | None = None

    def forward(self, ids: Tensor) -> Tensor:
        """ids [s, b] → [s, b, h], or this rank's part of s where the blocks split it."""
        x: Tensor = self.blocks[0](ids)
        for number, block in enumerate(self.blocks[1:], 1):
            x = x + block(ids - number * self.rows)
        return x if self.join is None else self.join(x)
