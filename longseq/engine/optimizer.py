"""The optimizer, its weight-decay groups and its learning rate.

groups = parameter_groups(model, config.training)
optimizer = make_optimizer(config, groups, mesh)
set_learning_rate(engine, learning_rate(iteration, config.training))
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from longseq.config.arguments import Config, Training
from longseq.config.optimizers import OPTIMIZERS
from longseq.engine.network.compile import wants_compiling
from longseq.engine.one_pass_adam import OnePassAdam
from longseq.engine.stage0 import BareOptimizer
from longseq.host.uncompiled import load_compiler, without_compiler
from longseq.parallel.mesh import Mesh

AdamW = without_compiler(torch.optim.AdamW)
SGD = without_compiler(torch.optim.SGD)
Adafactor = without_compiler(torch.optim.Adafactor)


def parameter_groups(model: nn.Module, train: Training) -> list[dict[str, Any]]:
    """Matrices decay; norms and biases, whose scale the network relies on, do not.

    Where the layers' matrices are stepped by another rule they are a group of their own, `inner`.
    """
    named = list(model.named_parameters())
    decayed = [(name, p) for name, p in named if dimensions(p) > 1]
    others = [p for _, p in named if dimensions(p) <= 1]
    apart = OPTIMIZERS[train.optimizer].layers_apart
    inner = [p for name, p in decayed if apart and name.startswith("layers.")]
    chosen = {id(p) for p in inner}
    groups: list[dict[str, Any]] = [
        {"params": inner, "weight_decay": train.weight_decay, "inner": True},
        {
            "params": [p for _, p in decayed if id(p) not in chosen],
            "weight_decay": train.weight_decay,
        },
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def dimensions(parameter: nn.Parameter) -> int:
    """The number of dimensions, also of a parameter that ZeRO stage 3 has flattened and cut."""
    return len(getattr(parameter, "ds_shape", parameter.shape))


def learning_rate(iteration: int, train: Training) -> float:
    """The rate of the step that is number `iteration`, from 1: linear warm-up, then the decay."""
    if train.warmup_iters and iteration <= train.warmup_iters:
        return train.lr * iteration / train.warmup_iters
    if train.lr_decay_style == "constant":
        return train.lr
    length = train.decay_iters - train.warmup_iters
    done = min(1.0, (iteration - train.warmup_iters) / length) if length else 1.0
    left = 1 - done if train.lr_decay_style == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return train.min_lr + (train.lr - train.min_lr) * left


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group, on the optimizer that DeepSpeed steps."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def make_optimizer(
    config: Config, groups: list[dict[str, Any]], mesh: Mesh
) -> torch.optim.Optimizer:
    """The optimizer that --optimizer names; at stage 0 inside one that clips (stage0.py).

    At the other stages DeepSpeed's own wrapper does.
    """
    train = config.training
    if train.offload_optimizer != "none":
        return _host_adam(train, groups)
    make = partial(MAKERS[train.optimizer], train)
    device = groups[0]["params"][0].device
    by_us = train.zero_stage == 0 and train.bf16
    if by_us and train.optimizer == "adam" and wants_compiling(config, device):
        make = partial(_one_pass_adam, train)
    if train.zero_stage == 0:
        return BareOptimizer(make, groups, train.clip_grad, mesh.tp, config.accumulation > 1)
    return make(groups)


def _adam(train: Training, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    betas = (train.adam_beta1, train.adam_beta2)
    return AdamW(groups, lr=train.lr, betas=betas, eps=train.adam_eps, fused=True)


def _one_pass_adam(train: Training, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    betas = (train.adam_beta1, train.adam_beta2)
    return OnePassAdam(groups, lr=train.lr, betas=betas, eps=train.adam_eps)


def _sgd(train: Training, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return SGD(groups, lr=train.lr)


def _adafactor(train: Training, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return Adafactor(groups, lr=train.lr)


def _muon(train: Training, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return MuonAndAdam(train, groups)


MAKERS = {"adam": _adam, "sgd": _sgd, "adafactor": _adafactor, "muon": _muon}


def _host_adam(train: Training, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    load_compiler()  # DeepSpeed asks for the very class, with its decorators
    betas = (train.adam_beta1, train.adam_beta2)
    adam: torch.optim.Optimizer = DeepSpeedCPUAdam(
        groups, lr=train.lr, betas=betas, eps=train.adam_eps, adamw_mode=True
    )
    adam.register_step_pre_hook(_forget_powers)
    return adam


def _forget_powers(adam: Any, args: Any, options: Any) -> None:
    """A resumed run's bias corrections must be those of the run before, bit for bit.

    DeepSpeed's operator multiplies the powers of the betas from step to step, and after a load, at
    a step that does not follow its last one, computes them: other last digits. An update of nothing
    at step 0 makes it compute them in each step (ops/csrc/includes/cpu_adam.h, IncrementStep).
    """
    nothing, (beta1, beta2) = torch.empty(0), adam.param_groups[0]["betas"]
    adam.ds_opt_adam.adam_update(
        adam.opt_id, 0, 0.0, beta1, beta2, 1.0, 0.0, True, nothing, nothing, nothing, nothing
    )


@without_compiler
class MuonAndAdam(torch.optim.Optimizer):
    """torch's Muon for the layers' matrices, AdamW for tables, norms and biases.

    Muon's step is scaled to the size of AdamW's, so that one learning rate serves both.
    """

    def __init__(self, train: Training, groups: list[dict[str, Any]]) -> None:
        inner = [g for g in groups if g.get("inner")]
        outer = [g for g in groups if not g.get("inner")]
        scale = "match_rms_adamw"
        make = without_compiler(torch.optim.Muon)  # which older versions of torch have not
        muon = make(inner, lr=train.lr, weight_decay=train.weight_decay, adjust_lr_fn=scale)
        self.parts: tuple[torch.optim.Optimizer, ...] = (muon, _adam(train, outer))
        self._join()
        super().__init__(self.param_groups, {})
        self._join()

    def _join(self) -> None:
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, saved in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(saved)
        self._join()
