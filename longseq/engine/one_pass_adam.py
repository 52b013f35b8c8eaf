"""AdamW on fp32 masters of half-precision weights, with gradients as they come, in one pass.

    adam = OnePassAdam(groups, lr=…, betas=…, eps=…)       # the groups hold the masters
    adam.lay_out(weights, masters)                          # once: side by side in memory
    gathered = adam.gather(gradients)                       # while backward still runs on a GPU
    adam.step_from(gathered, scale)                         # also rounds into the weights

torch's fused AdamW wants fp32 gradients, so that around it they are copied, scaled and the masters
rounded: five passes over all parameters, 52 bytes of each. Here one compiled function a group reads
and writes each number once, 28 bytes, and 4 more to lay gradients side by side: a call for each of
a network's hundreds of parameters would take the CPU longer than the GPU. What the CPU does for
each parameter is done in `gather`: between the norm, for which it waits, and the update a GPU has
nothing to do. The rule is torch's own (arXiv 1711.05101), as is the state, so that a checkpoint
goes on with either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

ALIGNED = 128  # numbers that each parameter begins at a multiple of: matrix units ask for 16 bytes


@dataclass(frozen=True)
class _Laid:
    """The parameters of one group side by side: where each is, and [n] of all, gaps among them."""

    places: dict[nn.Parameter, slice]
    weight: Tensor
    master: Tensor
    first: Tensor
    second: Tensor


@dataclass(frozen=True)
class Gathered:
    """One group's gradients side by side, [n], and its parts that are updated alike."""

    laid: _Laid
    gradient: Tensor
    runs: list[tuple[slice, int]]
    masters: list[nn.Parameter]


class OnePassAdam(torch.optim.AdamW):
    """torch's AdamW, which keeps its state in tensors of a whole group."""

    def __init__(self, groups: list[dict[str, Any]], **options: Any) -> None:
        super().__init__(groups, fused=True, **options)
        self._laid: list[_Laid] = []
        self._masters: list[nn.Parameter] = []

    @torch.no_grad()
    def lay_out(self, weights: Sequence[nn.Parameter], masters: Sequence[nn.Parameter]) -> None:
        """Move weights and masters, which stay the same objects, to where they are updated."""
        self._masters = list(masters)
        weight_of = dict(zip(masters, weights, strict=True))
        for group in self.param_groups:
            laid = _side_by_side(group["params"], weight_of[group["params"][0]].dtype)
            for master, place in laid.places.items():
                _move(weight_of[master], laid.weight[place])
                _move(master, laid.master[place])
            self._laid.append(laid)
        self._own_state()

    def _own_state(self) -> None:
        """The state that torch knows of each master is a part of its group's."""
        for laid in self._laid:
            for master, place in laid.places.items():
                known = self.state[master]
                for name, whole in (("exp_avg", laid.first), ("exp_avg_sq", laid.second)):
                    mine = whole[place].view(master.shape)
                    if name in known:
                        mine.copy_(known[name])
                    known[name] = mine
                # The count of updates is the host's, which makes of it what the GPU works with
                step = torch.as_tensor(known.get("step", 0.0), dtype=torch.float32)
                known["step"] = step.to("cpu", copy=True)

    @torch.no_grad()
    def gather(self, gradients: Sequence[Tensor | None]) -> list[Gathered | None]:
        """Lay the gradients of the masters, in their order and shapes, side by side; None where no
        parameter of a group has one. They may go then.
        """
        given = dict(zip(self._masters, gradients, strict=True))
        return [_gathered(laid, given, self._runs(laid, given)) for laid in self._laid]

    def _runs(
        self, laid: _Laid, given: dict[nn.Parameter, Tensor | None]
    ) -> list[tuple[slice, int]]:
        """Parts of a group that are updated alike, and the number of their next update: one, but
        where parameters have no gradient now or had none before.
        """
        runs: list[tuple[slice, int]] = []
        last = 0
        for master, place in laid.places.items():
            count = 0 if given[master] is None else int(self.state[master]["step"]) + 1
            if count and count == last:
                place = slice(runs.pop()[0].start, place.stop)
            if count:
                runs.append((place, count))
            last = count
        return runs

    @torch.no_grad()
    def step_from(self, gathered: Sequence[Gathered | None], scale: float) -> None:
        """One update with `scale` times the gradients; a parameter without one stays as it is."""
        for group, some in zip(self.param_groups, gathered, strict=True):
            if some is None:
                continue
            laid = some.laid
            for part, count in some.runs:
                parts = (x[part] for x in (laid.weight, laid.master, laid.first, laid.second))
                numbers = _numbers(group, count, scale, some.gradient.device)
                _compiled(*parts, some.gradient[part], numbers)
        for some in gathered:
            for master in some.masters if some else ():
                self.state[master]["step"].add_(1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        with torch.no_grad():
            self._own_state()


def _side_by_side(masters: Sequence[nn.Parameter], dtype: torch.dtype) -> _Laid:
    """Memory for a group of masters, and for weights of `dtype`."""
    places, start = {}, 0
    for master in masters:
        places[master] = slice(start, start + master.numel())
        start += -(-master.numel() // ALIGNED) * ALIGNED
    whole = masters[0].new_zeros(start, dtype=dtype)
    return _Laid(places, whole, *(masters[0].new_zeros(start) for _ in range(3)))


def _gathered(
    laid: _Laid, given: dict[nn.Parameter, Tensor | None], runs: list[tuple[slice, int]]
) -> Gathered | None:
    """The gradients of a group in memory like that of its weights."""
    found = {p: g for p in laid.places if (g := given[p]) is not None}
    if not found:
        return None
    gradient = laid.weight.new_empty(laid.weight.shape, dtype=next(iter(found.values())).dtype)
    places = [gradient[laid.places[p]].view(p.shape) for p in found]
    torch._foreach_copy_(places, list(found.values()))
    return Gathered(laid, gradient, runs, list(found))


def _move(parameter: nn.Parameter, place: Tensor) -> None:
    """Let `parameter` live at `place` [its numbers], with its values."""
    place.copy_(parameter.detach().view(-1))
    parameter.data = place.view(parameter.shape)


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
    """All [n] but numbers [8]; weight in half precision; all but gradient and numbers in place."""
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
