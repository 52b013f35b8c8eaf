"""The one-pass AdamW against its formula in fp64, and against the state that torch's own keeps."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from longseq.engine import one_pass_adam
from longseq.engine.one_pass_adam import OnePassAdam
from longseq.engine.stage0 import BareOptimizer, Make
from longseq.parallel.mesh import Group

OPTIONS: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8}
OURS = partial(OnePassAdam, **OPTIONS)
SHAPES = ((300, 400), (77,))
DECAY = (0.1, 0.0)


@pytest.fixture(autouse=True)
def _as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a C++ compiler; what it makes is held to torch's where there is a GPU."""
    monkeypatch.setattr(one_pass_adam, "_compiled", one_pass_adam._update)


def made(make: Make) -> tuple[list[torch.nn.Parameter], BareOptimizer]:
    generator = torch.Generator().manual_seed(2)
    weights = [
        torch.nn.Parameter(torch.randn(shape, generator=generator).bfloat16()) for shape in SHAPES
    ]
    groups = [
        {"params": [p], "weight_decay": decay} for p, decay in zip(weights, DECAY, strict=True)
    ]
    return weights, BareOptimizer(make, groups, 1.0, Group("tp"))


def gradients(step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(shape, generator=generator).bfloat16() * 0.1 for shape in SHAPES]


def give(weights: list[torch.nn.Parameter], step: int) -> None:
    for weight, gradient in zip(weights, gradients(step), strict=True):
        weight.grad = gradient.clone()


def test_the_formula() -> None:
    weights, optimizer = made(OURS)
    p = [w.detach().double() for w in weights]
    m, v = ([torch.zeros_like(x) for x in p] for _ in range(2))
    for step in range(1, 5):
        give(weights, step)
        optimizer.step()
        g = [x.double() for x in gradients(step)]
        norm = torch.cat([x.flatten() for x in g]).norm()
        for i, x in enumerate(g):
            x = x * min(1, 1 / (norm + 1e-6))
            m[i] = 0.9 * m[i] + 0.1 * x
            v[i] = 0.95 * v[i] + 0.05 * x * x
            p[i] = p[i] * (1 - 1e-2 * DECAY[i])
            p[i] -= 1e-2 * (m[i] / (1 - 0.9**step)) / ((v[i] / (1 - 0.95**step)).sqrt() + 1e-8)
        for master, weight, wanted in zip(optimizer.masters, weights, p, strict=True):
            torch.testing.assert_close(master.detach().double(), wanted, rtol=1e-5, atol=1e-6)
            assert torch.equal(weight, master.bfloat16())
            assert weight.grad is None


def test_it_goes_on_with_torchs_state_and_torch_with_its() -> None:
    torchs = partial(torch.optim.AdamW, fused=True, **OPTIONS)
    for first, second in ((OURS, torchs), (torchs, OURS)):
        (weights, one), (others, two) = made(first), made(second)
        for step in (1, 2):
            give(weights, step)
            one.step()
        two.load_state_dict(copy.deepcopy(one.state_dict()))
        for both, optimizer in ((weights, one), (others, two)):
            give(both, 3)
            optimizer.step()
        for a, b in zip(one.masters, two.masters, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_refused_update_changes_nothing_and_counts_for_nothing() -> None:
    weights, optimizer = made(OURS)
    give(weights, 1)
    optimizer.step()
    before = [m.detach().clone() for m in optimizer.masters]
    optimizer.may_update = lambda norm: False
    give(weights, 2)
    optimizer.step()
    assert optimizer.overflow
    assert all(torch.equal(a, b) for a, b in zip(before, optimizer.masters, strict=True))
    assert [float(state["step"]) for state in optimizer.state.values()] == [1, 1]
    assert all(weight.grad is None for weight in weights)


def test_a_parameter_without_a_gradient_stays_as_it_is_and_counts_its_own_updates() -> None:
    """Three of one group, of which the middle one has no gradient in the second step."""
    shapes = ((5, 7), (300,), (4, 4))
    ours = [torch.nn.Parameter(torch.ones(shape).bfloat16()) for shape in shapes]
    torchs = [torch.nn.Parameter(torch.ones(shape)) for shape in shapes]
    one = BareOptimizer(OURS, [{"params": ours, "weight_decay": 0.1}], 0.0, Group("tp"))
    two = torch.optim.AdamW(torchs, weight_decay=0.1, **OPTIONS)
    for step in range(1, 4):
        for place, (a, b) in enumerate(zip(ours, torchs, strict=True)):
            generator = torch.Generator().manual_seed(10 * step + place)
            gradient = torch.randn(a.shape, generator=generator).bfloat16()
            a.grad = None if (step, place) == (2, 1) else gradient
            b.grad = None if a.grad is None else gradient.float()
        one.step()
        two.step()
    for master, wanted in zip(one.masters, torchs, strict=True):
        torch.testing.assert_close(master.detach(), wanted.detach(), rtol=1e-5, atol=1e-6)
    assert [float(one.state[m]["step"]) for m in one.masters] == [3, 2, 3]


class Calls(TorchDispatchMode):
    """Counts torch's operations."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("parameters", [2, 50])
def test_a_gpu_waits_for_no_parameter_between_the_norm_and_the_update(
    parameters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the CPU does in between is as much for many parameters as for two."""
    weights = [torch.nn.Parameter(torch.ones(3, 5).bfloat16()) for _ in range(parameters)]
    optimizer = BareOptimizer(OURS, [{"params": weights}], 1.0, Group("tp"))
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    calls, known, given = Calls(), [], []

    def ask(norm: float) -> bool:
        known.append(calls.count)
        return True

    def update(*tensors: torch.Tensor) -> None:
        given.append(calls.count)

    optimizer.may_update = ask
    monkeypatch.setattr(one_pass_adam, "_compiled", update)
    with calls:
        optimizer.step()
    assert len(known) == len(given) == 1
    assert given[0] - known[0] < 10  # five slices, a row of numbers
    assert [int(state["step"]) for state in optimizer.state.values()] == [1] * parameters
