"""Runs and their figures in columns, on a terminal of any width.

    for line in columns(names, head, rows, width):      # width None: as wide as it needs to be
        print(line)

A name and its figures are one line. Where that is wider than `width`, the name stands above its
figures, and the last columns that find no room are left out: a figure is never cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

GAP = 2  # columns of the terminal between two figures, and before the first that stands alone


def columns(
    names: Sequence[str], head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None
) -> list[str]:
    """The lines: a head, then a name and a row of figures each; head: of the figures, whose words
    may stand above each other.
    """
    name_room = max(map(cell_len, (*names, "run")))
    spread = [[title, *(row[n] for row in rows)] for n, title in enumerate(head)]
    whole = [max(map(len, column)) for column in spread]
    if width is None or name_room + sum(whole) + GAP * len(whole) <= width:
        lines = [_padded("run", name_room) + _line(head, whole)]
        return lines + [
            _padded(name, name_room) + _line(row, whole)
            for name, row in zip(names, rows, strict=True)
        ]
    stacked = [_stacked(title) for title in head]
    rooms = [
        max(map(len, (*titles, *(row[n] for row in rows)))) for n, titles in enumerate(stacked)
    ]
    fit = max(n for n in range(len(rooms) + 1) if sum(rooms[:n]) + GAP * n <= width)
    lines = [_line([titles[level] for titles in stacked[:fit]], rooms) for level in (0, 1)]
    for name, row in zip(names, rows, strict=True):
        lines += [name, _line(row[:fit], rooms)]
    return [line.rstrip() for line in lines if line.strip()]


def _line(cells: Sequence[str], rooms: Sequence[int]) -> str:
    return "".join(" " * GAP + cell.rjust(room) for cell, room in zip(cells, rooms, strict=False))


def _stacked(title: str) -> tuple[str, str]:
    """Its last word below the others."""
    above, _, below = title.rpartition(" ")
    return above, below


def _padded(name: str, room: int) -> str:
    return set_cell_size(name, room)
