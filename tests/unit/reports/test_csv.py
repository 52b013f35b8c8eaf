"""A run's records as CSV: equal to metrics.jsonl, value by value."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from longseq.__main__ import main

RECORDS: list[dict[str, Any]] = [
    {"iteration": 1, "lm_loss": 1 / 3, "grad_norm": None},
    {"iteration": 2, "lm_loss": 2 / 7, "grad_norm": 1e-9, "event": 'a "spike", left out\nhere'},
    {"iteration": 3, "lm_loss": 0.25, "checkpoints_before": [{"checkpoint_iteration": 2}]},
]


def test_every_value_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").mkdir()
    lines = [json.dumps(record) + "\n" for record in RECORDS]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    assert main(["report", str(tmp_path), "--csv"]) == 0
    assert f"{tmp_path}/metrics.csv" in capsys.readouterr().out
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    read = []
    for row in rows:
        known = {key: text for key, text in row.items() if text}
        read.append({k: v if k == "event" else json.loads(v) for k, v in known.items()})
    there = [{k: v for k, v in record.items() if v is not None} for record in RECORDS]
    assert read == there


def test_a_chain_is_whole(tmp_path: Path) -> None:
    """A run that goes on has the rows of those before it, up to where each was left."""
    for name, load, iterations in (("a", "", (1, 2, 3)), ("b", "a", (3, 4)), ("c", "b", (5, 6))):
        (tmp_path / name).mkdir()
        lines = [json.dumps({"iteration": n, "lm_loss": f"{name}{n}"}) + "\n" for n in iterations]
        (tmp_path / name / "metrics.jsonl").write_text("".join(lines))
        summary = {"settings": {"run": {"load": load}}, "directory": str(tmp_path)}
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))
    assert main(["report", str(tmp_path / "c"), "--csv"]) == 0
    with (tmp_path / "c" / "metrics.csv").open(newline="") as file:
        assert [row["lm_loss"] for row in csv.DictReader(file)] == "a1 a2 b3 b4 c5 c6".split()
