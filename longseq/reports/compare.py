"""Several runs side by side, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from longseq.reports.format import duration, number, short
from longseq.reports.runs import RunRecord

COLUMNS = (
    "status",
    "iterations",
    "training loss",
    "validation loss",
    "tokens/s",
    "TFLOPS",
    "model TFLOPS",
    "GiB",
    "time",
)


def row(run: RunRecord) -> list[str]:
    """One run's figures, in the order of COLUMNS; speeds are medians."""
    return [
        run.status or "unknown",
        str(run.metrics[-1]["iteration"]),
        number(run.recent("lm_loss"), "{:.4f}"),
        number(run.last("validation_loss"), "{:.4f}"),
        short(run.typical("tokens_per_sec")),
        number(run.typical("tflops"), "{:.3g}"),
        number(run.typical("model_tflops"), "{:.3g}"),
        number(run.last("peak_memory_gib"), "{:.2f}"),
        duration(run.seconds()),
    ]


def show(runs: Sequence[RunRecord], console: Console | None = None) -> None:
    """Print the table: a run a line; without a terminal as wide as it needs to be."""
    out = console or Console()
    if not out.is_terminal:
        out.width = 40 + max(len(run.folder.name) for run in runs) + sum(map(len, COLUMNS))
    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for run in runs:
        table.add_row(Text(run.folder.name), *row(run))
    out.print(table)
