"""A run is held to a plan of what it holds: with a checkpoint's copy where there is one."""

from __future__ import annotations

import pytest

from longseq.config.checks import parse_config
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.run import peak
from longseq.run.peak import OWN, HeldToPlan, Peak

SAVING = "--save x --save-interval 5 --hidden-size 512 --make-vocab-size-divisible-by 50000"


@pytest.mark.parametrize("copied", [True, False])
def test_the_copy_is_planned_where_it_is_held(
    copied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config(SAVING.split(), 1)
    copy = 12 * config.network.parameter_count(50000) / 2**30
    assert copy > OWN
    monkeypatch.setattr(peak, "resident_gib", lambda: 1.0)
    monkeypatch.setattr(peak, "reset_peak", lambda: True)

    def found(measured: float, copied: bool) -> Peak:
        monkeypatch.setattr(peak, "peak_memory_gib", lambda _device: 1.0 + measured)
        held = HeldToPlan(config, 16, "cpu")
        assert held.after(2048, RecomputePolicy(), copied) is None
        second = held.after(2048, RecomputePolicy(), copied)
        assert second is not None
        return second

    without = found(0.0, False).planned
    planned = without + (copy if copied else 0)
    assert found(planned, copied).planned == pytest.approx(planned)
    assert found(planned, copied).warning == ""
