"""Large tensors that are freed leave the process, where glibc alone would keep holes for them."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import torch
from longseq.memory.allocator import give_back_large
from longseq.host.host_memory import resident_gib
if sys.argv[1] == "told":
    assert give_back_large(8 << 20)
torch.empty(30 << 20, dtype=torch.uint8)  # freed at once: from here on glibc keeps such sizes
before = resident_gib()
tensors = [torch.ones(6 << 20, dtype=torch.uint8) for _ in range(50)]
last = tensors[-1]
del tensors
print((resident_gib() - before) * 1024)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_holes_are_given_back() -> None:
    """Of 50 tensors of 6 MiB the last one lives."""
    left = {
        told: float(subprocess.check_output([sys.executable, "-c", PROGRAM, told], text=True))
        for told in ("told", "untold")
    }
    assert left["told"] < 20
    assert left["untold"] > 200
