"""Published memory, speed and longest sequences, beside what `longseq plan` says of the same runs.

`python -m benchmarks published FILE.csv` reads one published figure a row (the columns are those of
`COLUMNS`) and prints predicted beside published, the misses by name, the rows that cannot be
predicted with the reason, and four figures: how often fits or does not fit is right, and the median
errors of peak memory, speed and longest sequence. Bars: 95 %, 10 %, 25 %, 15 %.
"""

from __future__ import annotations

import csv
import statistics
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path

from benchmarks.predicted import GIB, Run, Unpredictable, longest, peak_bytes, run_of, speed
from benchmarks.table import Table
from longseq.memory.need import need

COLUMNS = (
    "id system model layers hidden heads kv_heads ffn vocab seq_len micro_batch global_batch gpus"
    " gpu gpu_mem_gb tp sp_ulysses cp pp dp zero_or_fsdp offload recompute attn precision tiling"
    " result_kind value unit fits source quality note"
).split()
MEMORY = ("peak_mem", "peak_mem_nvsmi", "steady_mem", "activation_mem")
SPEED = ("throughput", "mfu", "iter_time", "layer_time")
BARS = {"memory": 0.10, "speed": 0.25, "longest": 0.15}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE.csv")
    parser.add_argument("--misses", action="store_true", help="only the rows that are missed")


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table with the columns of COLUMNS."""
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except OSError as error:
        sys.exit(f"published: {path}: {error.strerror}")
    missing = [name for name in COLUMNS if not rows or name not in rows[0]]
    if missing:
        sys.exit(f"published: {path} has no column {', '.join(missing)}")
    return rows


def fits(run: Run) -> bool:
    """Whether the run fits into GPUs and hosts, to the byte."""
    found = need(run.job, run.system)
    host = sum(found.host.values()) * min(run.node.gpus, run.job.ranks)
    return found.total <= run.gpu_bytes and host <= run.node.host_gib * GIB


def kind_of(row: dict[str, str]) -> str:
    """memory, speed or longest; empty where the row says only that something runs or does not."""
    kind = row["result_kind"]
    if kind in MEMORY:
        return "memory"
    if kind in SPEED:
        return "speed"
    return "longest" if kind == "max_seq" else ""


def predicted(run: Run, row: dict[str, str], kind: str) -> float:
    """In the unit of the row."""
    if kind == "memory":
        return peak_bytes(run, row["result_kind"], row["unit"])
    return speed(run, row["unit"]) if kind == "speed" else longest(run, row["unit"])


@dataclass(frozen=True)
class Judged:
    """One row beside its plan; what it does not say is None or empty."""

    row: dict[str, str]
    run: Run
    kind: str
    value: float | None
    error: float | None
    said: str
    judged: str

    @property
    def misses(self) -> list[str]:
        """What is wrong with the plan, in words."""
        row, found = self.row, []
        name = f"{row['id']} {row['system']}, {row['model']}, {row['seq_len']}"
        if self.error is not None and abs(self.error) > BARS[self.kind]:
            found.append(f"{name}: {self.value:.4g} for {row['value']} {row['unit']}")
        if self.said != self.judged:
            found.append(f"{name}: fits {self.judged} for {self.said}")
        return found


def judge(row: dict[str, str]) -> Judged:
    """Plan a row; raises Unpredictable. Whether it fits is not asked of a longest sequence."""
    try:
        run, kind = run_of(row), kind_of(row)
        value = predicted(run, row, kind) if kind else None
        error = None if value is None else value / float(row["value"]) - 1
    except (ValueError, ZeroDivisionError):
        raise Unpredictable("a number of the row is none") from None
    said = judged = ""
    if row["fits"].startswith(("yes", "OOM", "no bar")) and kind != "longest":
        said = "yes" if row["fits"] == "yes" else "no"
        judged = "yes" if fits(run) else "no"
    return Judged(row, run, kind, value, error, said, judged)


def main(options: Namespace) -> None:
    table = Table(
        ("row", "<8"), ("system", "<28"), ("published", ".4g"), ("planned", ".4g"),
        ("error", "+.0%"), ("unit", "<24"), ("fits", "<6"), ("planned", "<6"),
    )  # fmt: skip
    found, without = [], []
    for row in read(options.file):
        try:
            one = judge(row)
        except Unpredictable as reason:
            without.append(f"{row['id']} {row['system']}, {row['model']}: {reason}")
            continue
        found.append(one)
        if one.misses or not options.misses:
            published = float(row["value"]) if one.kind else None
            numbers = (published, one.value, one.error)
            words = (row["unit"][:24], one.said, one.judged)
            table.row(row["id"], row["system"][:28], *numbers, *words)
    _print("missed", [miss for one in found for miss in one.misses])
    _print("not to be predicted", without)
    _summary(found)


def _print(title: str, lines: list[str]) -> None:
    print(f"\n{title}: {len(lines)}")
    for line in lines:
        print(f"  {line}")


def summary(found: list[Judged]) -> dict[str, float]:
    """The four figures: `fits` is the part that is right, the others are median errors."""
    figures = {}
    for kind in BARS:
        errors = [abs(one.error) for one in found if one.kind == kind and one.error is not None]
        if errors:
            figures[kind] = statistics.median(errors)
    right = [one.said == one.judged for one in found if one.said]
    if right:
        figures["fits"] = sum(right) / len(right)
    return figures


def _summary(found: list[Judged]) -> None:
    print()
    columns = ("rows", ""), ("median error", ".1%"), ("bar", ".0%"), ("fits right", ".1%")
    table = Table(("figure", "<10"), ("system", "<40"), *columns)
    for kind, bar in BARS.items():
        these = [one for one in found if one.kind == kind]
        for title in sorted({one.run.system.title for one in these}):
            some = [one for one in these if one.run.system.title == title]
            figures = summary(some)
            table.row(kind, title, len(some), figures[kind], None, figures.get("fits"))
        if these:
            table.row(kind, "all", len(these), summary(these)[kind], bar, None)
    said = [one for one in found if one.said]
    if said:
        table.row("fits", "all", len(said), None, None, summary(said)["fits"])
