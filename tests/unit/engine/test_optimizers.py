"""Optimizers against their libraries' own steps; bf16 against masters kept by hand."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longseq.config.arguments import Config
from longseq.config.checks import parse_config
from longseq.config.optimizers import OPTIMIZERS
from longseq.engine.loss_scale import change_after_update, scale_losses
from longseq.engine.optimizer import (
    MAKERS,
    learning_rate,
    make_optimizer,
    parameter_groups,
    set_learning_rate,
)
from longseq.engine.stage0 import BareOptimizer
from longseq.parallel.mesh import Group, Mesh

STEPS = 4


class Net(nn.Module):
    """Names as the GPT's: a table outside the layers, a matrix and a bias inside."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.tokens = nn.Embedding(6, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8)])
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))
        self.to(dtype)

    def loss(self, step: int) -> Tensor:
        x: Tensor = self.layers[0](self.tokens(torch.tensor([step % 6, 3])))
        return x.float().square().sum()


def config(*flags: str) -> Config:
    return parse_config(["--device", "cpu", "--lr", "0.01", *flags], 1)


ADAM = dict.fromkeys(("adam", "muon"), "--adam-beta1 0.8 --adam-beta2 0.9 --adam-eps 1e-3".split())


def adamw(parameters: Any, decay: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, 0.01, betas=(0.8, 0.9), eps=1e-3, weight_decay=decay)


# Optimizer → the library's own on (tables, matrices of layers, the rest)
LIBRARY: dict[str, Callable[[Any, Any, Any], list[torch.optim.Optimizer]]] = {
    "adam": lambda t, m, r: [adamw([t, m], 0.1), adamw([r], 0.0)],
    "sgd": lambda t, m, r: [
        torch.optim.SGD([t, m], lr=0.01, weight_decay=0.1),
        torch.optim.SGD([r], lr=0.01),
    ],
    "adafactor": lambda t, m, r: [
        torch.optim.Adafactor([t, m], lr=0.01, weight_decay=0.1),
        torch.optim.Adafactor([r], lr=0.01),
    ],
    "muon": lambda t, m, r: [
        torch.optim.Muon([m], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        adamw([t], 0.1),
        adamw([r], 0.0),
    ],
}


def test_every_optimizer_is_made_and_tried() -> None:
    assert set(OPTIMIZERS) == set(MAKERS) == set(LIBRARY)


@pytest.mark.parametrize("name", LIBRARY)
def test_steps_as_the_library_does(name: str) -> None:
    ours, theirs = Net(), Net()
    run = config(
        "--optimizer", name, "--clip-grad", "0", "--weight-decay", "0.1", *ADAM.get(name, [])
    )
    optimizer = make_optimizer(run, parameter_groups(ours, run.training), Mesh.single())
    table, matrix, bias = theirs.tokens.weight, theirs.layers[0].weight, theirs.layers[0].bias
    library = LIBRARY[name](table, matrix, bias)
    for step in range(STEPS):
        ours.loss(step).backward()
        theirs.loss(step).backward()
        optimizer.step()
        for part in library:
            part.step()
        ours.zero_grad()
        theirs.zero_grad()
        for mine, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_goes_on_from_its_state_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    run = config("--optimizer", name, *(["--bf16"] if dtype == torch.bfloat16 else []))

    def fresh() -> tuple[Net, torch.optim.Optimizer]:
        net = Net(dtype)
        return net, make_optimizer(run, parameter_groups(net, run.training), Mesh.single())

    def train(net: Net, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            net.loss(step).backward()
            optimizer.step()
            net.zero_grad()

    whole, optimizer = fresh()
    train(whole, optimizer, range(2))
    saved = [p.detach().clone() for p in whole.parameters()]
    state = optimizer.state_dict()
    rest, resumed = fresh()
    with torch.no_grad():
        for p, value in zip(rest.parameters(), saved, strict=True):
            p.copy_(value)
    resumed.load_state_dict(torch_copy(state))
    set_learning_rate(optimizer, 0.02)
    set_learning_rate(resumed, 0.02)
    train(whole, optimizer, range(2, 5))
    train(rest, resumed, range(2, 5))
    for a, b in zip(whole.parameters(), rest.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(whole.parameters()), saved[0])


def torch_copy(state: Any) -> Any:
    """As through a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("micro", [1, 3])
def test_bf16_keeps_fp32_masters_and_fp32_sums(micro: int) -> None:
    """Against the same arithmetic written out: bf16 gradients, their fp32 sum, clip, SGD."""
    net, plain = Net(torch.bfloat16), Net(torch.bfloat16)

    def make(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=0.01)

    ours = BareOptimizer(make, [{"params": list(net.parameters())}], 2.0, Group("tp"), micro > 1)
    masters = [p.detach().float() for p in plain.parameters()]
    for step in range(STEPS):
        sums = [torch.zeros_like(m) for m in masters]
        for part in range(micro):
            net.loss(step + part).backward()
            grads = torch.autograd.grad(plain.loss(step + part), list(plain.parameters()))
            for total, grad in zip(sums, grads, strict=True):
                total += grad
        ours.step()
        norm = torch.cat([g.flatten() for g in sums]).norm()
        for master, total, p in zip(masters, sums, plain.parameters(), strict=True):
            master -= 0.01 * total * min(1.0, float(2.0 / norm))
            p.data.copy_(master)
        assert ours._global_grad_norm == pytest.approx(float(norm), rel=1e-6)
        for mine, expected in zip(ours.masters, masters, strict=True):
            torch.testing.assert_close(mine.detach(), expected, rtol=1e-5, atol=1e-6)
        for mine_p, master in zip(net.parameters(), ours.masters, strict=True):
            assert torch.equal(mine_p, master.bfloat16())
            assert mine_p.grad is None


def test_fp16s_loss_scale_comes_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With DeepSpeed's scaler, which doubles in the third step, against the same without one:
    powers of two change no digit. What overflows updates nothing, and nobody is asked of it.
    """
    monkeypatch.setattr("deepspeed.comm.get_rank", lambda: 1)  # which is not to say anything
    flags = ["--fp16", "--device", "cuda", "--optimizer", "sgd", "--weight-decay", "0"]
    run = config(*flags, "--clip-grad", "0.7")
    weight = nn.Parameter(torch.tensor([3.0, 4.0]).half())
    master, asked = weight.detach().float(), list[float]()
    optimizer = make_optimizer(run, [{"params": [weight]}], Mesh.single())
    assert isinstance(optimizer, BareOptimizer)

    def may_update(norm: float) -> bool:
        asked.append(norm)
        return True

    optimizer.may_update = may_update
    engine = SimpleNamespace(optimizer=optimizer, backward=lambda loss: loss.backward())
    asked_for = {"initial_scale_power": 5, "loss_scale_window": 2, "hysteresis": 1}
    scale_losses(engine, {"fp16": asked_for})
    scales = []
    for step in range(6):
        scales.append(optimizer.loss_scaler.cur_scale)
        engine.backward((weight.float().square().sum() / 2) * (1e9 if step == 3 else 1))
        optimizer.step()
        assert optimizer.overflow == (step == 3)
        if not optimizer.overflow:  # the gradient is the weight
            norm = float(master.half().float().norm())
            assert asked.pop() == optimizer._global_grad_norm == pytest.approx(norm, rel=1e-6)
            master -= 0.01 * 0.7 / (norm + 1e-6) * master.half()
        torch.testing.assert_close(optimizer.masters[0].detach(), master, rtol=1e-6, atol=0)
    assert scales == [2.0**n for n in (5, 5, 5, 6, 5, 5)]
    assert not asked


def test_a_loss_scale_changes_after_the_update_that_it_belongs_to() -> None:
    """With an optimizer that does what DeepSpeed's of stages 1 to 3 do."""

    class Theirs:
        loss_scale, overflow = 8.0, False

        def step(self) -> None:
            self._update_scale(self.overflow)
            self.update = 24.0 / self.loss_scale

        def _update_scale(self, overflow: bool) -> None:
            self.loss_scale *= 0.5 if overflow else 2

    optimizer = Theirs()
    change_after_update(optimizer)
    found = []
    for optimizer.overflow in (False, True, False):
        optimizer.step()
        found.append((optimizer.update, optimizer.loss_scale))
    assert found == [(3.0, 16.0), (1.5, 8.0), (3.0, 16.0)]


def test_on_the_host_a_resumed_step_is_the_step_that_would_have_been() -> None:
    """Bit for bit; and AdamW's as torch has it."""
    mesh: Any = SimpleNamespace()

    def made(asked: Config) -> tuple[nn.Parameter, torch.optim.Optimizer]:
        weight = nn.Parameter(torch.linspace(-1, 1, 500))
        groups = [{"params": [weight], "weight_decay": 0.01}]
        return weight, make_optimizer(asked, groups, mesh)

    def step(weight: nn.Parameter, optimizer: torch.optim.Optimizer, number: int) -> None:
        generator = torch.Generator().manual_seed(number)
        weight.grad = torch.randn(500, generator=generator)
        optimizer.step()

    host = config("--zero-stage", "1", "--cpu-optimizer")
    runs = [made(host)]
    torchs, reference = made(config("--zero-stage", "1"))
    for number in range(1, 41):
        if number in (20, 30):
            resumed, again = made(host)
            resumed.data.copy_(runs[0][0].data)
            again.load_state_dict(copy.deepcopy(runs[0][1].state_dict()))
            runs.append((resumed, again))
        for run in (*runs, (torchs, reference)):
            step(*run, number)
    (whole, _), *others = runs
    assert all(torch.equal(resumed, whole) for resumed, _ in others)
    torch.testing.assert_close(whole, torchs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("style", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", ["iters 3", "fraction 0.25", "fraction 0.95", "fraction 0.01"])
def test_rates_are_those_of_megatrons_formula(warmup: str, style: str) -> None:
    """Of its OptimizerParamScheduler, which counts samples, at the update that is to come."""
    samples, iterations, decay, high, low = 4, 12, 9, 1e-3, 1e-4

    def theirs(iteration: int) -> float:
        kind, number = warmup.split()
        rising = float(number) * (decay if kind == "fraction" else 1) * samples
        steps = iteration * samples
        if rising > 0 and steps <= rising:
            return high * steps / rising
        if style == "constant":
            return high
        if steps > decay * samples:
            return low
        done = (steps - rising) / (decay * samples - rising)
        left = 1 - done if style == "linear" else 0.5 * (math.cos(math.pi * done) + 1)
        return low + left * (high - low)

    words = f"--lr {high} --min-lr {low} --train-iters {iterations} --lr-decay-iters {decay}"
    words += f" --global-batch-size {samples} --lr-decay-style {style} --lr-warmup-{warmup}"
    train = parse_config(words.split(), 1).training
    ours = [learning_rate(iteration, train) for iteration in range(1, iterations + 1)]
    assert ours == pytest.approx([theirs(n) for n in range(1, iterations + 1)], rel=1e-12)
