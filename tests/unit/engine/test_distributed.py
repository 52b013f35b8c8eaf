"""What torch is told before it starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from longseq.engine.distributed import make_deterministic
from longseq.errors import UserError


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
