"""The one printer: a table whose rows appear as they are measured, ready to be pasted into docs.

table = Table(("tokens", ","), ("a second", ".0f"), ("ratio", ".3f"))
table.row(2048, 431.2, 0.99)
"""

from __future__ import annotations

LEAST = 7  # characters of a column


class Table:
    """Columns are (name, format of a number); a format that starts with < is a text's."""

    def __init__(self, *columns: tuple[str, str]) -> None:
        self.formats = [form for _, form in columns]
        self.widths = [max(len(name), LEAST, _width(form)) for name, form in columns]
        self._print([name for name, _ in columns])
        print("|" + "|".join("-" * (width + 2) for width in self.widths) + "|", flush=True)

    def row(self, *values: float | str | None) -> None:
        """One value a column; None: nothing was measured there."""
        cells = []
        for value, form in zip(values, self.formats, strict=True):
            number = isinstance(value, int | float)
            cells.append("" if value is None else format(value, form) if number else str(value))
        self._print(cells)

    def _print(self, cells: list[str]) -> None:
        padded = [
            cell.ljust(width) if form.startswith("<") else cell.rjust(width)
            for cell, width, form in zip(cells, self.widths, self.formats, strict=True)
        ]
        print("| " + " | ".join(padded) + " |", flush=True)


def _width(form: str) -> int:
    return int(form[1:]) if form.startswith("<") else 0
