"""What docs call by `python -m` says in one line that a Python without torch is the wrong one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("words", ["benchmarks one_rank", "tests.gpu.kernels"])
def test_a_python_without_torch_is_told(words: str) -> None:
    bare = [sys.executable, "-S", "-B", "-m", *words.split()]  # -S: without site-packages
    found = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert line.startswith(f"longseq: {sys.executable} has no ")
    assert "activate" in line or "./install.sh" in line
