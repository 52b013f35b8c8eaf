"""The published forms of what a bench found: TFLOPS by length, the longest sequence by ranks.

speed = speed_table(results)             # a Table: head and rows of text
reach = reach_table(results)
write_tables(folder, results)            # results.csv, results.json
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from longseq.bench.kept import FAILED, OK, OOM, REFUSED, TIMED_OUT, Result
from longseq.bench.longest import planned_longest, span_of
from longseq.host.atomic_files import replace_file
from longseq.reports.format import number
from longseq.reports.sections import Table

WORDS = {OOM: "OOM", REFUSED: "refused", FAILED: "failed", TIMED_OUT: "timed out"}


def tokens(count: int) -> str:
    """2048 is 2k and 2097152 is 2m, as lengths are given."""
    for unit, size in (("m", 1024**2), ("k", 1024)):
        if count and count % size == 0:
            return f"{count // size}{unit}"
    return f"{count:,}"


def curves(results: Iterable[Result]) -> dict[str, list[Result]]:
    """The results of each network, kernel and layout by a name, shortest first."""
    known = sorted(results, key=lambda one: (one.ranks, one.layout, one.length))
    networks, kernels = {one.network for one in known}, {one.kernel for one in known}
    found: dict[str, list[Result]] = {}
    for one in known:
        parts = [one.network] * (len(networks) > 1) + [f"kernel {one.kernel}"] * (len(kernels) > 1)
        found.setdefault(", ".join([one.layout, *parts]), []).append(one)
    return found


def speed_table(results: Sequence[Result]) -> Table:
    """A row for each curve, a column for each length: TFLOPS a rank by Megatron's count, by the
    model's in brackets; in place of it what else became of the case.
    """
    lengths = sorted({one.length for one in results})
    rows = []
    for name, curve in curves(results).items():
        cells = {one.length: _cell(one) for one in curve}
        rows.append([name, *(cells.get(length, "") for length in lengths)])
    title = "TFLOPS a rank by sequence length: Megatron's count (model FLOPs)"
    return Table(title, ["layout", *map(tokens, lengths)], rows)


def _cell(one: Result) -> str:
    if one.outcome != OK:
        return WORDS[one.outcome]
    return f"{number(one.tflops, '{:.3g}')} ({number(one.model_tflops, '{:.3g}')})"


def reach_table(results: Sequence[Result], memory_gib: float = 0.0) -> Table:
    """A row for each curve: the longest sequence that ran, what the next one came to, and where the
    estimate of memory reaches `memory_gib` of a rank (0: no limit, no estimate).
    """
    rows = []
    for name, curve in curves(results).items():
        longest, beyond = span_of(curve)
        then = f"{beyond.length:,}: {beyond.outcome}" if beyond else "not tried"
        last = next((one for one in curve if one.length == longest), None)
        memory = number(last.peak_gib, "{:.2f}") if last else ""
        planned = planned_longest(curve, memory_gib)
        estimate = f"{planned:,}" if planned is not None else ""
        rows.append([name, str(curve[0].ranks), f"{longest:,}", estimate, memory, then])
    head = ["layout", "ranks", "longest that ran", "planned", "GiB of rank 0", "beyond"]
    return Table("Longest sequence by number of ranks", head, rows)


def show(table: Table, console: Console | None = None) -> None:
    """Print it; without a terminal as wide as it needs to be."""
    out = console or Console()
    if not out.is_terminal:
        out.width = 400
    out.print(Text(table.title, style="bold"))
    grid = Grid(box=None, pad_edge=False)
    for place, name in enumerate(table.head):
        grid.add_column(name, justify="right" if place else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(*(Text(cell) for cell in row))
    out.print(grid)


def write_tables(folder: Path, results: Sequence[Result]) -> list[Path]:
    """results.csv and results.json, a row for each case; returns their paths."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Result)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(one) for one in results)
    replace_file(folder / "results.csv", text.getvalue())
    replace_file(
        folder / "results.json", json.dumps([asdict(one) for one in results], indent=1) + "\n"
    )
    return [folder / "results.csv", folder / "results.json"]
