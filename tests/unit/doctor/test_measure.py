"""What is measured of a machine, and what can be wrong with the folder that is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from longseq.doctor import measure
from longseq.errors import UserError


def test_a_disk_that_does_not_take_the_file_is_a_line() -> None:
    """/proc can be written, and takes no files."""
    with pytest.raises(UserError, match=r"--disk /proc: .*: name a folder that takes 256 MiB"):
        measure.disk_rates(Path("/proc"))


@pytest.mark.parametrize(("seconds", "calls"), [(0.01, 6), (0.7, 3), (9.0, 2)])
def test_slow_calls_are_tried_less_often(
    seconds: float, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    made: list[float] = []

    def run() -> None:
        made.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    assert measure._best(run, torch.device("cpu")) == pytest.approx(seconds)
    assert len(made) == calls
