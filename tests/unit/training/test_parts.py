"""The parts of a step are the times between its marks, on a clock that is not the machine's."""

import itertools
import time

import pytest
import torch

from longseq.training.parts import Parts


def test_parts_are_between_marks_and_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.accumulate((1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0))  # 1 3 7 … 127
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    parts = Parts(torch.device("cpu"))
    parts.begin()
    for part in ("data", "forward", "backward", "data", "backward", "update"):
        parts.ended(part)
    found = parts.seconds()
    assert list(found) == [f"{part}_seconds" for part in ("data", "forward", "backward", "update")]
    assert list(found.values()) == [2 + 16, 4, 8 + 32, 64]
    assert sum(found.values()) == 127 - 1
    clock = itertools.count(1.0)  # type: ignore[assignment]
    parts.begin()
    parts.ended("update")
    assert list(parts.seconds().values()) == [0, 0, 0, 1]
