"""Tiles of a sequence: what is computed token by token need not be computed for all tokens at once.

    for tile in tiles(rows, size, parts):
        y[tile.rows] = f(x[tile.rows], tile.of(wide))

Under Megatron's sequence parallelism a rank's x holds [s/tp, b, h], and between the column- and the
row-parallel layers all tokens of its own heads, [s, b, …]: the tokens of one tile are then the same
rows of each of the `parts` = tp pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Tile:
    """Some tokens of a sequence: `rows` of x [s, b, h].

    In a tensor [parts·s, b, …], where `parts` ranks' tokens lie one rank behind the other, they
    are the same rows of each rank's piece.
    """

    rows: slice
    parts: int

    def of(self, wide: Tensor) -> Tensor:
        """This tile's tokens of `wide` [parts·s, …], [parts·rows, …]; a view if parts is 1."""
        if self.parts == 1:
            return wide[self.rows]
        return wide.unflatten(0, (self.parts, -1))[:, self.rows].flatten(0, 1)

    def put(self, wide: Tensor, values: Tensor) -> None:
        """Write `values` [parts·rows, …] to this tile's tokens of `wide` [parts·s, …]."""
        if self.parts == 1:
            wide[self.rows] = values
        else:
            parts = (self.parts, -1)
            wide.unflatten(0, parts)[:, self.rows] = values.unflatten(0, parts)


def tiles(rows: int, size: int, parts: int) -> Iterator[Tile]:
    """Tiles of `size` rows, the last one smaller; all of them where size is 0."""
    step = size or rows
    for start in range(0, rows, step):
        yield Tile(slice(start, min(start + step, rows)), parts)
