"""The parts of a step are the times between its marks, on a clock that is not the machine's."""

import itertools
import time

import pytest
import torch

from longseq.training.parts import Parts


def test_parts_are_between_marks_and_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.accumulate((1.0, 2.0, 4.0, 8.0, 16.0, 32.0))  # 1 3 7 15 31 63
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    parts = Parts(torch.device("cpu"))
    parts.begin()
    for part in ("forward", "backward", "forward", "backward", "update"):
        parts.ended(part)
    found = parts.seconds()
    assert found == {"forward_seconds": 10, "backward_seconds": 20, "update_seconds": 32}
    assert sum(found.values()) == 63 - 1
    clock = itertools.count(1.0)  # type: ignore[assignment]
    parts.begin()
    parts.ended("update")
    assert parts.seconds() == {"forward_seconds": 0, "backward_seconds": 0, "update_seconds": 1}
