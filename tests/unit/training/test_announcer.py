"""What a run says of itself at its start."""

from __future__ import annotations

import pytest
import torch

from longseq.training.announcer import slow_precision


def test_bf16_where_it_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    for capability, slow in (("AVX2", True), ("AVX512", False), ("SVE256", False)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda c=capability: c)
        assert ("DTYPE=fp32 is faster" in slow_precision("bf16", cpu)) == slow
        assert not slow_precision("fp32", cpu) + slow_precision("bf16", gpu)
