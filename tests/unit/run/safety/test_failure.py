"""A run that fails is one in its summary; out of memory is a line with numbers and remedies."""

import json
from pathlib import Path

import pytest
import torch

from longseq.config.checks import parse_config
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.run.safety.failure import is_out_of_memory, out_of_memory, record_failure


def test_the_first_failure_is_recorded(tmp_path: Path) -> None:
    record_failure(tmp_path, ValueError("before there was a run"))
    assert list(tmp_path.iterdir()) == []
    summary = tmp_path / "summary.json"
    summary.write_text(json.dumps({"status": "running", "settings": {"a": 1}}))
    record_failure(tmp_path, ValueError("boom\nmore"))
    record_failure(tmp_path, ValueError("connection closed by peer"))
    assert json.loads(summary.read_text()) == {
        "status": "failed",
        "reason": "boom",
        "settings": {"a": 1},
    }


def test_an_allocators_error_is_known() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 55)
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("size mismatch"))


def test_out_of_memory_says_numbers_and_what_is_left_to_do() -> None:
    flags = "--micro-batch-size 2 --zero-stage 3 --global-batch-size 2"
    config = parse_config(flags.split(), 1)
    line = out_of_memory(config, 16, RecomputePolicy(), 3, 1.25, 0.5)
    assert "\n" not in line
    assert line.startswith("out of memory in iteration 3: estimated 0.")
    assert "measured 1.2 GiB when it failed, 0.5 GiB more were there: give MICRO_BATCH=1" in line
    assert "USE_ACTIVATION_CHECKPOINTING=1, more ranks" in line
    assert "ZERO_STAGE" not in line
    assert "copy" not in line


def test_out_of_memory_names_a_checkpoints_copy() -> None:
    flags = "--device cpu --save x --save-interval 5 --hidden-size 1024 --num-layers 8"
    config = parse_config(flags.split(), 1)
    with_copy = out_of_memory(config, 16, RecomputePolicy(), 3, 1.25, 0.5, copied=True)
    assert "GiB a rank (1.2 GiB of it a checkpoint's copy), measured" in with_copy
    assert "give --save-interval 0 (a save at the end, without a copy), " in with_copy
    assert "copy" not in out_of_memory(config, 16, RecomputePolicy(), 3, 1.25, 0.5, copied=False)
