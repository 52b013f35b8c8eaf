"""Runs and their figures in columns, on a terminal of any width.

    for line in columns(names, head, rows, width):      # width None: as wide as it needs to be
        print(line)

A name and its figures are one line, the middle of long names left out if that tells them apart.
Where it is wider than `width`, the name stands above its figures, and the last columns that find no
room are left out: a figure is never cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

NAME = 24  # columns of the terminal that a name without its middle has at least
GAP = 2  # columns of the terminal between two figures, and before the first that stands alone


def columns(
    names: Sequence[str], head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None
) -> list[str]:
    """The lines: a head, then a name and a row of figures each; head: of the figures, whose words
    may stand above each other.
    """
    spread = [[title, *(row[n] for row in rows)] for n, title in enumerate(head)]
    whole = [max(map(len, column)) for column in spread]
    taken = sum(whole) + GAP * len(whole)
    if width is None:
        width = taken + max(map(cell_len, ("run", *names)))
    if beside := _beside(("run", *names), width - taken):
        room = max(map(cell_len, beside))
        return [
            set_cell_size(name, room) + _line(row, whole)
            for name, row in zip(beside, [head, *rows], strict=True)
        ]
    stacked = [_stacked(title) for title in head]
    rooms = [
        max(map(len, (*titles, *(row[n] for row in rows)))) for n, titles in enumerate(stacked)
    ]
    fit = max(n for n in range(len(rooms) + 1) if sum(rooms[:n]) + GAP * n <= width)
    lines = [_line([titles[level] for titles in stacked[:fit]], rooms) for level in (0, 1)]
    for name, row in zip(names, rows, strict=True):
        lines += [shortened(name, width), _line(row[:fit], rooms)]
    return [line.rstrip() for line in lines if line.strip()]


def _line(cells: Sequence[str], rooms: Sequence[int]) -> str:
    return "".join(" " * GAP + cell.rjust(room) for cell, room in zip(cells, rooms, strict=False))


def _stacked(title: str) -> tuple[str, str]:
    """Its last word below the others."""
    above, _, below = title.rpartition(" ")
    return above, below


def _beside(names: Sequence[str], room: int) -> list[str]:
    """The names as they stand beside figures; empty where there is too little room."""
    short = [shortened(name, room) for name in names]
    fits = room >= NAME and len(set(short)) == len(set(names))
    return short if fits or short == list(names) else []


def shortened(name: str, room: int) -> str:
    """Without its middle, where it is wider than there is room: names differ at their ends."""
    if cell_len(name) <= room:
        return name
    for letters in range(max(0, room - 1), 0, -1):
        last = letters * 3 // 7
        text = f"{name[: letters - last]}…{name[len(name) - last :]}"
        if cell_len(text) <= room:
            return text
    return "…"
