"""AdamW on fp32 masters of half-precision weights, with gradients as they come, in one pass.

    adam = OnePassAdam(groups, lr=…, betas=…, eps=…)              # the groups hold the masters
    adam.step_from(weights, masters, gradients, scale)             # also rounds into the weights

torch's fused AdamW wants fp32 gradients, so that around it they are copied, scaled and the masters
rounded: five passes over all parameters, 52 bytes of each. Here a compiled function reads and
writes each once, 28 bytes. The rule is torch's own (arXiv 1711.05101), as is the state, so that a
checkpoint goes on with either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

SMALL = 2**16  # numbers of a parameter below which a launch costs more than its passes


class OnePassAdam(torch.optim.AdamW):
    """torch's, fused, for parameters that are small; a compiled pass for the others."""

    def __init__(self, groups: list[dict[str, Any]], **options: Any) -> None:
        super().__init__(groups, fused=True, **options)
        self._counts: dict[Tensor, int] = {}  # of updates

    @torch.no_grad()
    def step_from(
        self,
        weights: Sequence[Tensor],
        masters: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        scale: float,
    ) -> None:
        """One update with `scale` times the gradients, in the shapes of their masters; a parameter
        without one stays as it is.
        """
        found = {
            master: (weight, gradient)
            for weight, master, gradient in zip(weights, masters, gradients, strict=True)
            if gradient is not None
        }
        large = [p for p in found if p.numel() >= SMALL]
        small = [p for p in found if p.numel() < SMALL]
        self._step_large({p: found[p] for p in large}, scale)
        if small:
            for p in small:
                p.grad = found[p][1].float()
            if scale != 1:
                torch._foreach_mul_([p.grad for p in small if p.grad is not None], scale)
            super().step()
            torch._foreach_copy_([found[p][0] for p in small], small)
            for p in small:
                p.grad = None

    def _step_large(self, found: dict[Tensor, tuple[Tensor, Tensor]], scale: float) -> None:
        """The compiled pass over each of these masters, with its weight and gradient."""
        numbers: dict[tuple[int, int], Tensor] = {}  # by group and count of updates
        for place, group in enumerate(self.param_groups):
            for master in group["params"]:
                if master not in found:
                    continue
                state, count = self.state[master], self._counted(master)
                key = place, count
                if key not in numbers:
                    numbers[key] = _numbers(group, count, scale, master.device)
                weight, gradient = found[master]
                tensors = weight, master, state["exp_avg"], state["exp_avg_sq"], gradient
                _compiled(*(x.view(-1) for x in tensors), numbers[key])
        steps = [self.state[master]["step"] for master in found]
        if steps:
            torch._foreach_add_(steps, 1)

    def _counted(self, master: Tensor) -> int:
        """Number of the update that is made; the count is kept here, as it lies on the GPU."""
        state = self.state[master]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=master.device)
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(master) for _ in range(2))
            self._counts[master] = 0
        if master not in self._counts:
            self._counts[master] = int(state["step"])
        self._counts[master] += 1
        return self._counts[master]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._counts.clear()


def _numbers(group: dict[str, Any], count: int, scale: float, device: torch.device) -> Tensor:
    """What `_update` unpacks, [8] fp32, sent without waiting."""
    beta1, beta2 = group["betas"]
    rate, decay = group["lr"], group["weight_decay"]
    values = torch.tensor(
        [
            scale,
            1 - rate * decay,
            1 - beta1,
            beta2,
            1 - beta2,
            rate / (1 - beta1**count),
            math.sqrt(1 - beta2**count),
            group["eps"],
        ]
    )
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def _update(
    weight: Tensor, master: Tensor, first: Tensor, second: Tensor, gradient: Tensor, numbers: Tensor
) -> None:
    """All [n] but numbers [8]; weight and gradient in half precision, in place but the gradient."""
    scale, keep, new1, beta2, new2, rate, root, eps = numbers.unbind()
    g = gradient.float() * scale
    m = first + new1 * (g - first)
    v = beta2 * second + new2 * g * g
    p = keep * master - rate * m / (v.sqrt() / root + eps)
    first.copy_(m)
    second.copy_(v)
    master.copy_(p)
    weight.copy_(p)


@cache
def _compile() -> Callable[..., None]:
    return torch.compile(_update, dynamic=True)


def _compiled(*tensors: Tensor) -> None:
    """`_update`, compiled at its first call: to import torch's compiler takes a rank a second."""
    _compile()(*tensors)
