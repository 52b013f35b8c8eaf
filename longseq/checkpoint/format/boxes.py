"""Where the numbers that a rank holds lie in a whole tensor: as rectangles of its matrix.

    boxes((8, 4), None, 5, 14)     # numbers 5 to 13 of an 8 x 4 tensor, in the order of memory
    [Box(1, 1, 1, 3), Box(2, 0, 1, 4), Box(3, 0, 1, 2)]

A tensor-parallel share, a ZeRO partition that ends in the middle of a row, and any share of another
layout are a few rectangles each, and what two of them have in common is a rectangle again. So a
share is written as it lies in memory, and read by any other layout. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longseq.parallel.sharding import Sharding


@dataclass(frozen=True)
class Box:
    """Rows `row` to `row + rows`, columns `column` to `column + columns` of a matrix."""

    row: int
    column: int
    rows: int
    columns: int

    @property
    def size(self) -> int:
        return self.rows * self.columns

    def meet(self, other: Box) -> Box | None:
        """What both have in common, None where that is nothing."""
        row, column = max(self.row, other.row), max(self.column, other.column)
        rows = min(self.row + self.rows, other.row + other.rows) - row
        columns = min(self.column + self.columns, other.column + other.columns) - column
        return Box(row, column, rows, columns) if rows > 0 and columns > 0 else None

    def within(self, other: Box) -> tuple[slice, slice]:
        """Its rows and columns, counted from the corner of `other`, which contains it."""
        row, column = self.row - other.row, self.column - other.column
        return slice(row, row + self.rows), slice(column, column + self.columns)


def as_matrix(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a tensor seen as a matrix: a vector [n] is n rows of one number."""
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)


def boxes(shape: Sequence[int], sharding: Sharding | None, start: int, stop: int) -> list[Box]:
    """The numbers `start` to `stop` of a rank's piece of a tensor, whole [shape], in their order.

    Each box is one run of the piece's memory. Raises ValueError for a sharding that has none.
    """
    rows, width = as_matrix(shape)
    column, bands = 0, [(0, rows)]  # first row and number of rows, of the whole tensor
    if sharding is not None:
        if any(part % sharding.size for part in sharding.parts):
            raise ValueError(f"{sharding.parts} do not divide by {sharding.size} ranks")
        if sharding.dim == 0:
            bands = list(_bands(sharding))
        elif sharding.dim == 1 and len(sharding.parts) == 1 and len(shape) == 2:
            width //= sharding.size
            column = sharding.rank * width
        else:
            raise ValueError(f"no boxes for {sharding} of a tensor of shape {tuple(shape)}")
    found = []
    for piece in _rectangles(start, stop, width):
        done = 0
        for first, count in bands:
            inside = piece.meet(Box(done, 0, count, width))
            if inside is not None:
                row = first + inside.row - done
                found.append(Box(row, column + inside.column, inside.rows, inside.columns))
            done += count
    return found


def _bands(sharding: Sharding) -> Iterator[tuple[int, int]]:
    """The rows that a rank holds of a matrix cut along its rows, part by part."""
    before = 0
    for part in sharding.parts:
        count = part // sharding.size
        yield before + sharding.rank * count, count
        before += part


def _rectangles(start: int, stop: int, width: int) -> Iterator[Box]:
    """A run of a matrix's memory: the end of a row, whole rows, the beginning of a row."""
    while start < stop:
        row, column = divmod(start, width)
        rows = (stop - start) // width if column == 0 else 0
        columns = width if rows else min(width - column, stop - start)
        yield Box(row, column, max(rows, 1), columns)
        start += max(rows, 1) * columns
