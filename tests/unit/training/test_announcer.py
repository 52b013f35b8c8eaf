"""What a run says of itself at its start and end, and how fast it is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from longseq.config.checks import parse_config
from longseq.memory.recompute_policy import asked
from longseq.parallel.agreement import Ranks
from longseq.training.announcer import Announcer, slow_precision
from longseq.training.losses import Losses


def test_bf16_where_it_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    for capability, slow in (("AVX2", True), ("AVX512", False), ("SVE256", False)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda c=capability: c)
        assert ("DTYPE=fp32 is faster" in slow_precision("bf16", cpu)) == slow
        assert not slow_precision("fp32", cpu) + slow_precision("bf16", gpu)


def ended(folder: Path, losses: list[float]) -> list[Any]:
    """What the screen is told at the end of a run in `folder`: the closing's rows, warnings."""
    said: list[Any] = []
    words = f"--num-layers 2 --hidden-size 32 --num-attention-heads 4 --run-dir {folder}"
    announcer: Any = SimpleNamespace(
        config=parse_config(words.split(), 1),
        kept=SimpleNamespace(newest=None),
        screen=SimpleNamespace(closing=lambda _, rows: said.extend(rows), warn=said.append),
        ranks=Ranks(),
        folder=folder,
        marks={},
        _told={},
        peak=None,
        opening=[],
    )
    own = Losses(0)
    for loss in losses:
        own.add(loss)
    Announcer.ended(announcer, 0, own, None, 0.0)
    return said


def test_where_all_was_done_before_there_is_no_report_and_no_complaint(tmp_path: Path) -> None:
    assert ended(tmp_path, []) == [("everything", str(tmp_path))]
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "done"
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("error", [OSError("no room"), RuntimeError("a library that is broken")])
def test_a_report_that_fails_is_no_failure_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(_: object) -> None:
        raise error

    monkeypatch.setattr("longseq.training.announcer.read_run", broken)
    assert ended(tmp_path, [1.0])[-1] == f"the report could not be written: {error}"
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "done"


def test_a_folder_that_was_moved_meanwhile_is_said_so(tmp_path: Path) -> None:
    """Checkpoints may be elsewhere, so that it has ended well; nobody is sent to the report."""
    folder = tmp_path / "moved"
    assert ended(folder, [1.0])[1:] == [
        f"no summary says how it ended, and no report: {folder} is gone: it was removed or moved"
        " while this run used it"
    ]


def test_speed_counts_the_layers_that_are_recomputed() -> None:
    """One of eight takes an eighth of what all take more than none."""

    def tflops(flags: str) -> float:
        config = parse_config(["--num-layers", "8", *flags.split()], 1)
        trainer = SimpleNamespace(policy=asked(config))
        data = SimpleNamespace(vocab_size=16)
        run: Any = SimpleNamespace(config=config, data=data, trainer=trainer)
        return Announcer.rates(run, [], 2048, 1.0).tflops

    none, every = tflops("--recompute-granularity none"), tflops("--checkpoint-activations")
    one = tflops("--checkpoint-activations --recompute-method block --recompute-num-layers 1")
    outside = tflops("--recompute-granularity outside-attention")
    assert one - none == pytest.approx((every - none) / 8)
    assert none < outside < every
