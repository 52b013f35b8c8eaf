"""What a run says of itself at its start and end."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from longseq.config.checks import parse_config
from longseq.parallel.agreement import Ranks
from longseq.training.announcer import Announcer, slow_precision


def test_bf16_where_it_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    for capability, slow in (("AVX2", True), ("AVX512", False), ("SVE256", False)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda c=capability: c)
        assert ("DTYPE=fp32 is faster" in slow_precision("bf16", cpu)) == slow
        assert not slow_precision("fp32", cpu) + slow_precision("bf16", gpu)


def test_where_all_was_done_before_there_is_no_report_and_no_complaint(tmp_path: Path) -> None:
    said: list[Any] = []
    words = f"--num-layers 2 --hidden-size 32 --num-attention-heads 4 --run-dir {tmp_path}"
    announcer: Any = SimpleNamespace(
        config=parse_config(words.split(), 1),
        kept=SimpleNamespace(newest=None),
        screen=SimpleNamespace(closing=lambda _, rows: said.extend(rows), warn=pytest.fail),
        ranks=Ranks(),
        folder=tmp_path,
        marks={},
        _told={},
        peak=None,
        opening=[],
    )
    Announcer.ended(announcer, 0, [], None, 0.0)
    assert said == [("everything", str(tmp_path))]
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "done"
    assert not (tmp_path / "report.html").exists()
