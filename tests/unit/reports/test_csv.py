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
