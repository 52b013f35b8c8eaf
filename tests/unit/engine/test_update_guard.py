"""Which weights count as finite: those that there are, at stage 3 the rank's own; and of which
steps somebody is asked in fp16, and what its loss scale is told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from longseq.config.checks import parse_config
from longseq.engine.loss_scale import change_after_update, scale_losses
from longseq.engine.optimizer import make_optimizer
from longseq.engine.update_guard import are_finite, hold_updates, was_left_out
from longseq.parallel.mesh import Mesh


def holds(*parameters: Any) -> Any:
    network = nn.Module()
    network.parameters = lambda recurse=True: iter(parameters)  # type: ignore[method-assign]
    return network


def sliced(values: Sequence[float], whole: int) -> Any:
    """A parameter of `whole` numbers of which this rank has `values`, as DeepSpeed marks it."""
    parameter: Any = nn.Parameter(torch.empty(0))
    parameter.ds_tensor, parameter.ds_numel = torch.tensor(values), whole
    parameter.ds_process_group = None
    return parameter


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("worst", "finite"), [(1e18, True), (1e30, False), (torch.inf, False), (torch.nan, False)]
)
def test_of_whole_weights(dtype: torch.dtype, worst: float, finite: bool) -> None:
    weights = [torch.ones(3, dtype=dtype), torch.tensor([1.0, worst], dtype=dtype), torch.empty(0)]
    assert are_finite(holds(*map(nn.Parameter, weights))) is finite
    assert are_finite(holds())


@pytest.mark.parametrize("worst", [torch.inf, torch.nan])
def test_a_slices_padding_is_nobodys(worst: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """5 numbers over 2 ranks are 3 and 2; over 4 they are 2, 2, 1 and none."""
    for rank, values, finite in (
        (0, [1.0, 2.0, worst], False),
        (1, [1.0, 2.0, worst], True),
        (1, [1.0, worst, 0.0], False),
        (2, [1.0, worst], True),
        (3, [worst, worst], True),
    ):
        monkeypatch.setattr(dist, "get_rank", lambda group, rank=rank: rank)
        assert are_finite(holds(sliced(values, 5))) is finite
        assert are_finite(holds(sliced(values, 5), nn.Parameter(torch.tensor(torch.nan)))) is False


def test_what_lies_in_a_file_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "get_rank", lambda group: 0)
    parameter = sliced([], 5)
    assert are_finite(holds(parameter))
    assert isinstance(parameter.ds_tensor, Tensor)


class Theirs:
    """The steps of DeepSpeed's optimizers of stages 1 to 3 in fp16, in their order."""

    norm, overflow = 0.0, False
    loss_scaler: Any

    def __init__(self, stage: int) -> None:
        self.stage = stage

    @property
    def loss_scale(self) -> float:
        return float(self.loss_scaler.cur_scale)

    def step(self) -> None:
        self.overflow = False
        self.check_overflow(partition_gradients=True)
        if not self.overflow:
            norm = self._get_norm_groups()[0] if self.stage == 3 else self.scaled_global_norm()
            self.overflow = self.overflow or not math.isfinite(norm)
        self._update_scale(self.overflow)

    def check_overflow(self, partition_gradients: bool) -> None:
        self.overflow = not math.isfinite(self.norm)

    def scaled_global_norm(self) -> float:
        return self.norm * self.loss_scale

    def _get_norm_groups(self) -> list[float]:
        return [self.scaled_global_norm()]

    def _update_scale(self, has_overflow: bool) -> None:
        self.loss_scaler.update_scale(has_overflow)


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_an_overflow_of_fp16_is_normal_while_its_scale_may_fall(
    stage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all else that is not finite somebody is asked, and no refusal changes the scale."""
    monkeypatch.setattr("deepspeed.comm.get_rank", lambda: 1)  # which is not to say anything
    weight = nn.Parameter(torch.ones(1).half())
    flags = "--num-layers 2 --hidden-size 32 --num-attention-heads 4 --fp16 --device cuda"
    run = parse_config([*flags.split(), "--optimizer", "sgd", "--weight-decay", "0"], 1)
    optimizer: Any = (
        Theirs(stage) if stage else make_optimizer(run, [{"params": [weight]}], Mesh.single())
    )
    engine = SimpleNamespace(
        optimizer=optimizer,
        backward=None,
        fp16_enabled=lambda: stage > 0,
        zero_optimization_stage=lambda: stage,
    )
    scale_losses(engine, {"fp16": {"initial_scale_power": 2, "hysteresis": 1}})
    if stage:
        change_after_update(optimizer)
    scaler, asked, found = optimizer.loss_scaler, list[float](), []

    def may_update(loss: float, norm: float) -> bool:
        asked.append(norm)
        return loss < 5 and math.isfinite(norm)

    inf, nan = math.inf, math.nan
    steps = [(1.0, 2.0), (9.0, 2.0), (1.0, inf), (nan, inf), (1.0, inf), (1.0, inf), (nan, inf)]
    now = [0.0]
    hold_updates(engine, may_update, lambda: now[0])
    for now[0], norm in steps:
        optimizer.norm, weight.grad = norm, torch.tensor([norm * scaler.cur_scale]).half()
        optimizer.step()
        found.append((len(asked), was_left_out(engine), scaler.cur_scale))
        asked.clear()
    updated, refused, overflow = (1, False), (1, True), (0, True)
    assert found == [
        (*updated, 4),
        (*refused, 4),
        (*overflow, 2),
        (*refused, 2),
        (*overflow, 1),
        (*refused, 1),
        (*refused, 1),
    ]
