"""What is said of this CPU, against torch's own look at it."""

from __future__ import annotations

import torch

from longseq.host.machine import has_avx512


def test_avx512() -> None:
    assert has_avx512() == ("AVX512" in torch.backends.cpu.get_cpu_capability())
