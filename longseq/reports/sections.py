"""What a page tells in tables: rows of (name, value), or of (name, value, share of a bar)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from longseq.reports import curves, plots
from longseq.reports.format import number
from longseq.reports.runs import RunRecord

Rows = Sequence[tuple[str, str] | tuple[str, str, float]]
ROWS = 40  # of the table of values, beside the validations


@dataclass(frozen=True)
class Table:
    """One of a page's, with a head."""

    title: str
    head: list[str]
    rows: list[list[str]]


def parts(run: RunRecord) -> Rows:
    """Median seconds of each part of an iteration, and how much of it that is."""
    whole = run.typical("iteration_time")
    parts = {name: run.typical(f"{name}_seconds") for name in plots.PARTS}
    if not whole or None in parts.values():
        return []
    return [(name, f"{took:.3g} s, {took / whole:.1%}") for name, took in parts.items() if took]


def happened(run: RunRecord) -> Rows:
    """The runs before, and what was done about spikes: the first of many."""
    events = run.events()
    rows = [("before", text) for text in run.earlier]
    rows += [(f"iteration {at:,}", text) for at, text in events[:ROWS]]
    if len(events) > ROWS:
        rows.append(("more", f"{len(events) - ROWS:,} more are in metrics.jsonl, as event"))
    return rows


def damage(run: RunRecord) -> Rows:
    """What of the run's files cannot be used."""
    if not run.lost:
        return []
    return [("metrics.jsonl", f"{run.lost} of its lines cannot be read and are left out")]


def pairs(rows: Any) -> list[tuple[str, str]]:
    """Rows of two that a run's summary holds."""
    rows = rows if isinstance(rows, list) else []
    return [(str(row[0]), str(row[1])) for row in rows if isinstance(row, list) and len(row) == 2]


def values(run: RunRecord, content: dict[str, Any]) -> Table:
    """Some of the curves' numbers, a row an iteration: each validation, and a few between."""
    found = content["tables"][0]
    x, columns = found["x"], {k: c for k, c in found["c"].items() if k != curves.LOCAL}
    chosen = set(range(0, len(x), -(-len(x) // ROWS))) | {len(x) - 1}
    known = [n for n, v in enumerate(columns.get("validation_loss", [])) if v is not None]
    chosen |= set(known[:: -(-len(known) // ROWS) or 1])
    rows = [
        [f"{x[n]:,}", *(number(column[n], "{:.5g}") for column in columns.values())]
        for n in sorted(chosen)
    ]
    head = ["iteration", *(key.replace("_", " ") for key in columns)]
    return Table("Values of some iterations", head, rows)


def flat(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (name.of.value, value) rows."""
    if not isinstance(tree, dict):
        text = ", ".join(map(str, tree)) if isinstance(tree, list) else str(tree)
        return [(prefix, text)]
    rows = []
    for key, value in tree.items():
        rows += flat(value, f"{prefix}.{key}" if prefix else str(key))
    return rows
