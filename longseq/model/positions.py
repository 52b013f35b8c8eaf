"""Learned positions, a table in blocks of rows: a rank that gathers it (ZeRO stage 3, tensor
parallelism with a split sequence) holds one block at a time, never a row for every token.

    table = Positions(131072, 512)
    x = x + table(ids)                  # [s, b] → [s, b, h]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from longseq.config.network import position_block
from longseq.model.tables import rows_of


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
