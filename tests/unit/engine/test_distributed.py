"""What torch is told before it starts."""

from __future__ import annotations

import logging
import subprocess
import sys

import deepspeed
import pytest
import torch
import torch.distributed as dist

from longseq.config.checks import parse_config
from longseq.engine.distributed import make_deterministic, pick_device
from longseq.engine.engine import prints_logged, start_deepspeed
from longseq.errors import UserError
from longseq.host import shared_memory


def test_a_workspace_that_does_not_repeat_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:2")
    with pytest.raises(UserError, match="CUBLAS_WORKSPACE_CONFIG=:4096:2 lets cuBLAS"):
        make_deterministic()


def test_what_repeats_is_told_to_blas_torch_and_its_compiler() -> None:
    """In a process of its own, as the compiler reads it where it is first imported."""
    text = (
        "from longseq.engine.distributed import make_deterministic; make_deterministic()\n"
        "import os, torch, torch._inductor.config as compiled\n"
        "print(os.environ['CUBLAS_WORKSPACE_CONFIG'], torch.are_deterministic_algorithms_enabled(),"
        " compiled.deterministic)"
    )
    said = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [":4096:8", "True", "True"]


def test_deepspeeds_chatter_goes_to_the_log_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its logger writes to the screen from its import on, which the open log comes before."""
    monkeypatch.setattr(deepspeed, "init_distributed", lambda **_: None)
    monkeypatch.setattr(shared_memory, "remove_stale", lambda: None)
    deepspeed.logger.addHandler(logging.StreamHandler())
    start_deepspeed()
    deepspeed.logger.warning("OVERFLOW! Skipping step.")
    deepspeed.logger.warning("**** You are using ZeRO with an untested optimizer, proceed ****")
    assert caplog.messages == ["OVERFLOW! Skipping step."]
    assert deepspeed.logger.handlers == []


def test_what_deepspeed_prints_goes_to_the_log_alone(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "longseq")
    with prints_logged():
        print("MA 0.32 GB\nend")
    assert capsys.readouterr().out == ""
    assert caplog.messages == ["DeepSpeed: MA 0.32 GB", "DeepSpeed: end"]


def test_a_torch_without_intels_gpus_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse_config(["--device", "xpu"], 1)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"torch \S+ sees no GPU of Intel's: take a torch for xpu"):
        pick_device(config)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    monkeypatch.setattr(dist, "is_xccl_available", lambda: False)
    with pytest.raises(UserError, match="has no xccl"):
        pick_device(config)
    monkeypatch.setattr(dist, "is_xccl_available", lambda: True)
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 12)
    monkeypatch.setenv("LOCAL_RANK", "11")
    assert pick_device(config) == torch.device("xpu", 11)
    with pytest.raises(UserError, match="--context-parallel-size 2 on --device xpu"):
        parse_config(["--device", "xpu", "--context-parallel-size", "2"], 2)
