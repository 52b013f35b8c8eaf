"""Learned positions, a table in blocks of rows: a rank that gathers it (ZeRO stage 3, tensor
parallelism with a split sequence) holds one block at a time, never a row for every token.

    table = Positions(131072, 512)
    x = x + table(ids)                  # [s, b] → [s, b, h]
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from longseq.config.arguments import position_block
from longseq.parallel.vocabulary import rows_of


class PositionBlock(nn.Module):
    """Some rows of a table."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, ids: Tensor) -> Tensor:
        return rows_of(self.weight, ids)


class Positions(nn.Module):
    """A table of `rows` learned positions; `join` is what parallel ranks add their parts with."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.rows = position_block(rows)
        starts = range(0, rows, self.rows)
        self.blocks = nn.ModuleList(
            PositionBlock(min(self.rows, rows - at), width) for at in starts
        )
        self.join: Callable[[Tensor], Tensor] | None = None

    def forward(self, ids: Tensor) -> Tensor:
        """ids [s, b] → [s, b, h], or this rank's part of s where the blocks split it."""
        x = self.blocks[0](ids)
        for number, block in enumerate(self.blocks[1:], 1):
            x = x + block(ids - number * self.rows)
        return x if self.join is None else self.join(x)
