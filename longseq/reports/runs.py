"""A run read back from its folder: what was measured, and how it was set up."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longseq.errors import UserError

SUMMARY = "summary.json"
RUNNING, DONE, STOPPED, FAILED = "running", "done", "stopped early", "failed"  # its status
WARM_UP = 2  # first iterations, slower than the rest, are left out of typical speeds


@dataclass(frozen=True)
class RunRecord:
    """`metrics` as in metrics.jsonl; `summary` is empty where the run did not end."""

    folder: Path
    metrics: list[dict[str, Any]]
    summary: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    command: str = ""

    def column(self, key: str) -> tuple[list[int], list[float]]:
        """Iterations and values of a metric, where it was measured."""
        known = [m for m in self.metrics if isinstance(m.get(key), (int, float))]
        return [m["iteration"] for m in known], [float(m[key]) for m in known]

    def last(self, key: str) -> float | None:
        """The latest value of a metric."""
        values = self.column(key)[1]
        return values[-1] if values else None

    def typical(self, key: str) -> float | None:
        """The median of a metric over the iterations after the first ones."""
        values = self.column(key)[1]
        return statistics.median(values[WARM_UP:] or values) if values else None

    def slowest_rank(self) -> str:
        """The rank that was the slowest at most looks, its host, and by how much (the median)."""
        looks = [m for m in self.metrics if isinstance(m.get("slowest_rank"), int)]
        if not looks:
            return ""
        rank = statistics.mode(m["slowest_rank"] for m in looks)
        its = [m for m in looks if m["slowest_rank"] == rank]
        over = statistics.median(float(m["slowest_over_median"]) for m in its)
        return (
            f"rank {rank} on {its[-1]['slowest_host']}: {over:.2f} x ({len(its)} of {len(looks)})"
        )

    @property
    def status(self) -> str:
        """How the run ended; one that says it runs may have been killed."""
        status = self.summary.get("status", "")
        return "running, or killed" if status == RUNNING else str(status)

    def seconds(self) -> float:
        """Time spent in iterations."""
        return sum(self.column("iteration_time")[1])


def read_run(folder: Path) -> RunRecord:
    """Read a run's folder; raises UserError where there is nothing to report."""
    path = folder / "metrics.jsonl"
    try:
        metrics = read_metrics(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name the folder of a run") from None
    if not metrics:
        raise UserError(f"{path} holds no iteration yet")
    return RunRecord(
        folder.absolute(),
        metrics,
        read_json(folder / SUMMARY),
        read_json(folder / "environment.json"),
        _text(folder / "command.sh"),
    )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; a last line cut short by a kill is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = parse_record(line)
        if record is not None:
            records.append(record)
    return records


def parse_record(line: str) -> dict[str, Any] | None:
    """A line of metrics.jsonl, or None where it is not one."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("iteration"), int) else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of a run; empty where there is none, or it is damaged."""
    try:
        found = json.loads(_text(path))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
