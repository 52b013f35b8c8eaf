"""A step reads nothing back in its middle, and its update one number (tests/gpu/syncs.py)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.gpu.syncs import CASES, ROOT, counted

X = torch.arange(6.0)
WAITS: dict[str, Callable[[], object]] = {
    "a number": lambda: float(X.sum()),
    "a condition": lambda: bool((X > 2).any()),
    "equal": lambda: torch.equal(X, X),
    "nonzero": lambda: X.nonzero(),
    "read by a mask": lambda: X[X > 2],
    "written by a mask": lambda: X.clone().__setitem__(X > 2, X[:3]),
    "unique": lambda: X.unique(),
    "repeated as values say": lambda: X.repeat_interleave(torch.ones_like(X, dtype=torch.int64)),
    "made in host memory": lambda: torch.zeros(2),
    "read by a list": lambda: X[[1, 2]],
    "written by a list": lambda: X.view(2, 3).clone().__setitem__((slice(None), [0, 1]), 0.0),
    "made of numbers": lambda: torch.tensor([1, 2], device="cpu"),
}
GOES_ON: dict[str, Callable[[], object]] = {
    "arithmetic": lambda: (X[1:3] * 2).softmax(0).sum(),
    "indices": lambda: X[torch.zeros_like(X, dtype=torch.int64)],
    "a mask without its size": lambda: X.masked_fill(X > 2, 0.0),
    "made where it is used": lambda: torch.zeros(2, device=X.device),
    "repeated": lambda: X.repeat_interleave(2),
}


@pytest.mark.parametrize("name", WAITS)
def test_what_waits_is_seen(name: str) -> None:
    with counted(torch.device("cpu")) as places:
        WAITS[name]()
    assert places
    assert all(place.startswith("tests/unit/training/test_syncs.py:") for place in places)


@pytest.mark.parametrize("name", GOES_ON)
def test_what_does_not_wait_is_let_go(name: str) -> None:
    with counted(torch.device("cpu")) as places:
        GOES_ON[name]()
    assert places == {}


def test_steps_wait_for_their_norm_alone(tmp_path: Path) -> None:
    out = tmp_path / "syncs.json"
    command = [sys.executable, "-m", "tests.gpu.syncs", "--device", "cpu", "--tiny"]
    done = subprocess.run(
        [*command, "--out", str(out)], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["what"]: row for row in json.loads(out.read_text())["rows"]}
    for case in CASES:
        assert rows[f"{case}: forward and backward"]["ours"] == 0
        update = rows[f"{case}: update"]
        sharded = "zero" in case  # there DeepSpeed measures the norm, and looks for overflows
        assert update["ours"] == (0 if sharded else 1)
        assert (update["DeepSpeed"] > 0) == sharded
