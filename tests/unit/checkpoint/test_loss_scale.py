"""fp16's loss scale goes through a checkpoint: a resumed run scales as the one before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler

from longseq.checkpoint.state.engine_state import SCALER, EngineState


class NoGroups(EngineState):
    """An engine's state without weights: what is counted is the scaler's alone."""

    def groups(self) -> list[Any]:
        return []


def state(scaler: Any) -> EngineState:
    engine: Any = SimpleNamespace(
        optimizer=SimpleNamespace(loss_scaler=scaler), module=torch.nn.Linear(1, 1)
    )
    return NoGroups(engine, SimpleNamespace())  # type: ignore[arg-type]


def dynamic(power: int) -> Any:
    """DeepSpeed's own, which doubles after three steps without an overflow."""
    return DynamicLossScaler(2**power, 3, 1, 2, consecutive_hysteresis=False)


def test_a_scale_goes_on_where_it_was() -> None:
    before, after = dynamic(16), dynamic(4)
    before.last_overflow_iter, before.cur_iter, before.cur_hysteresis = 1, 3, 1
    numbers = state(before).numbers
    assert numbers == {name: float(getattr(before, name)) for name in SCALER}
    state(after).set_numbers(numbers)
    scales = []
    for _ in range(4):
        for scaler in (before, after):
            scaler.update_scale(False)
            scales.append((scaler.cur_scale, scaler.cur_hysteresis))
    assert scales[::2] == scales[1::2] == [(2**16, 1)] * 2 + [(2**17, 2)] * 2


def test_what_scales_nothing_has_none_and_takes_none() -> None:
    static = SimpleNamespace(cur_scale=1.0, dynamic=False)
    assert state(static).numbers == {}
    state(static).set_numbers({"cur_scale": 8.0})
    assert static.cur_scale == 1.0
