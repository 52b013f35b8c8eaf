"""The optimizer of ZeRO stage 0, where DeepSpeed hands over the bare gradients.

DeepSpeed neither measures nor clips them in fp32, and its own bf16 wrapper of stage 0 takes a step
before the first one, which leaves Adam's bias correction one step ahead of stages 1 to 3. The one
for fp16 does so too, and of sharded parameters knows the norm on one rank alone. So this does it
all: the norm, the clipping and, below fp32, the fp32 master weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from longseq.engine.one_pass_adam import OnePassAdam
from longseq.host.uncompiled import without_compiler
from longseq.parallel.collectives import all_reduce
from longseq.parallel.mesh import Group
from longseq.parallel.sharding import sharding_of

Make = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


@without_compiler
class BareOptimizer(torch.optim.Optimizer):
    """`make(groups)` on whole parameters; `_global_grad_norm` is where DeepSpeed looks for it.

    Parameters below fp32 are stepped as fp32 masters. With `accumulates`, their gradients are
    summed over the micro batches in fp32 as well; a single one needs no sum.
    """

    def __init__(
        self,
        make: Make,
        groups: list[dict[str, Any]],
        limit: float,
        tp: Group,
        accumulates: bool = False,
    ) -> None:
        self.weights: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        self.masters = [_master(p) for p in self.weights]
        rest = iter(self.masters)
        groups = [group | {"params": [next(rest) for _ in group["params"]]} for group in groups]
        self.inner = make(groups)
        if isinstance(self.inner, OnePassAdam):
            self.inner.lay_out(self.weights, self.masters)
        self.limit, self.tp = limit, tp
        self._global_grad_norm = 0.0
        self.loss_scaler: Any = None  # DeepSpeed's, in fp16 (loss_scale.py)
        self.may_update: Callable[[float], bool] = lambda norm: True
        self.is_overflow: Callable[[], bool] = lambda: True  # in fp16, where the norm is no number
        self.overflow = False  # whether the last update was left out, as DeepSpeed's own call it
        self._sums: dict[nn.Parameter, Tensor] = {}
        super().__init__(self.inner.param_groups, {})
        self.param_groups = self.inner.param_groups
        self.state = self.inner.state
        if accumulates:
            for weight, master in zip(self.weights, self.masters, strict=True):
                if weight is not master:
                    weight.register_post_accumulate_grad_hook(self._add_up)

    def _add_up(self, weight: Any) -> None:
        """Move a micro batch's gradient into its fp32 sum."""
        if weight in self._sums:
            self._sums[weight].add_(weight.grad)
        else:
            self._sums[weight] = weight.grad.float()
        weight.grad = None

    def get_grads_for_reduction(self) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """DeepSpeed averages these over the replicas, in place (the second are an expert's)."""
        return [grad for p in self.weights if (grad := self._gradient(p)) is not None], {}

    def _gradient(self, weight: nn.Parameter) -> Tensor | None:
        return self._sums.get(weight, weight.grad) if self._sums else weight.grad

    def forget_gradients(self) -> None:
        """What DeepSpeed does after each step by looking through all modules for parameters."""
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        if isinstance(self.inner, OnePassAdam):
            self._in_one_pass(self.inner)
            return
        for weight, master in zip(self.weights, self.masters, strict=True):
            grad = self._gradient(weight)
            master.grad = None if grad is None else grad.float()
            if weight is not master:
                weight.grad = None
        self._sums.clear()
        given = [(p, p.grad) for p in self.masters if p.grad is not None]
        scale = self._scale(given)
        if self.overflow:
            for master in self.masters:
                master.grad = None
            return
        if scale != 1:
            torch._foreach_mul_([grad for _, grad in given], scale)
        self.inner.step()
        self._round()

    def _in_one_pass(self, adam: OnePassAdam) -> None:
        """What `step` does, where the optimizer takes the weights' own gradients."""
        gradients = [self._gradient(weight) for weight in self.weights]
        self.forget_gradients()
        self._sums.clear()
        given = [(p, g) for p, g in zip(self.weights, gradients, strict=True) if g is not None]
        gathered = adam.gather(gradients)
        scale = self._scale(given)
        if not self.overflow:
            adam.step_from(gathered, scale)

    def _scale(self, given: list[tuple[nn.Parameter, Tensor]]) -> float:
        """What these gradients are multiplied by, to clip them and to take fp16's loss scale out;
        `overflow` says whether they are used. Nobody is asked where fp16's scale was too large.
        """
        scaler = self.loss_scaler
        scale = scaler.loss_scale if scaler is not None else 1.0
        self._global_grad_norm = norm = gradient_norm(given, self.tp) / scale
        self.overflow = scaler is not None and not math.isfinite(norm) and self.is_overflow()
        if scaler is not None:
            scaler.update_scale(self.overflow)
        self.overflow = self.overflow or not self.may_update(norm)
        clipped = self.limit > 0 and norm > self.limit
        return (self.limit / (norm + 1e-6) if clipped else 1.0) / scale

    def _round(self) -> None:
        """The masters rounded into the weights; in one call, so that a GPU is not kept waiting."""
        pairs = [(w, m) for w, m in zip(self.weights, self.masters, strict=True) if w is not m]
        if pairs:
            torch._foreach_copy_([weight for weight, _ in pairs], [master for _, master in pairs])
        for _, master in pairs:
            master.grad = None

    def _copies(self) -> list[nn.Parameter]:
        """The masters that are not the weights themselves."""
        return [m for w, m in zip(self.weights, self.masters, strict=True) if w is not m]

    def state_dict(self) -> dict[str, Any]:
        return {
            "inner": self.inner.state_dict(),
            "masters": [master.detach() for master in self._copies()],
        }

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.inner.load_state_dict(state_dict["inner"])
        self.param_groups, self.state = self.inner.param_groups, self.inner.state
        for master, saved in zip(self._copies(), state_dict["masters"], strict=True):
            master.copy_(saved)


def _master(weight: nn.Parameter) -> nn.Parameter:
    """An fp32 copy that keeps the mark of the sharding; the weight itself where it is fp32."""
    if weight.dtype == torch.float32:
        return weight
    master = nn.Parameter(weight.detach().float())
    if sharding_of(weight) is not None:
        master.longseq_sharding = sharding_of(weight)  # type: ignore[attr-defined]
    return master


def gradient_norm(given: list[tuple[nn.Parameter, Tensor]], tp: Group) -> float:
    """The 2-norm of the whole gradient: sharded parameters from all ranks, whole ones once.

    given: parameters, or their masters, with their gradients. It is added up where these are, and
    is the only number that a step waits for.
    """
    squares = torch.zeros(2, dtype=torch.float32, device=given[0][1].device)
    parts: tuple[list[Tensor], list[Tensor]] = [], []
    for p, grad in given:
        parts[sharding_of(p) is None].append(grad)
    for place, grads in enumerate(parts):
        if grads:
            norms = torch._foreach_norm(grads, dtype=torch.float32)
            squares[place] = torch.stack(norms).square().sum()
    all_reduce(squares[:1], tp)
    return math.sqrt(float(squares.sum()))
