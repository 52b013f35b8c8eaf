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
nothing to do. That is little (lists in the order of the masters, one call that cuts a group's
memory into its parameters), as a GPU whose layers are short waits for the CPU all the time. The
rule is torch's own (arXiv 1711.05101), as is the state, so that a checkpoint goes on with either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._utils import _unflatten_dense_tensors

ALIGNED = 128  # numbers that each parameter begins at a multiple of: matrix units ask for 16 bytes


@dataclass(frozen=True)
class _Laid:
    """The parameters of one group side by side: where each is, and [n] of all, gaps among them.

    order: their places among all masters. pieces: what [n] is cut into, of which `real` are the
    parameters, the others gaps. steps: how many updates each has had, [parameters] fp32 on the
    host, which is the state that torch knows.
    """

    masters: list[nn.Parameter]
    order: list[int]
    places: list[slice]
    pieces: list[Tensor]
    real: list[int]
    steps: Tensor
    weight: Tensor
    master: Tensor
    first: Tensor
    second: Tensor

    def cut(self, whole: Tensor) -> list[Tensor]:
        """`whole` [n] as views in the shapes of the parameters."""
        views = _unflatten_dense_tensors(whole, self.pieces)
        return [views[i] for i in self.real]


@dataclass(frozen=True)
class Gathered:
    """One group's gradients side by side, [n], its parts that are updated alike, and the numbers
    of the parameters that have one.
    """

    laid: _Laid
    gradient: Tensor
    runs: list[tuple[slice, int]]
    given: list[int]


class OnePassAdam(torch.optim.AdamW):
    """torch's AdamW, which keeps its state in tensors of a whole group."""

    def __init__(self, groups: list[dict[str, Any]], **options: Any) -> None:
        super().__init__(groups, fused=True, **options)
        self._laid: list[_Laid] = []

    @torch.no_grad()
    def lay_out(self, weights: Sequence[nn.Parameter], masters: Sequence[nn.Parameter]) -> None:
        """Move weights and masters, which stay the same objects, to where they are updated."""
        number = {master: place for place, master in enumerate(masters)}
        for group in self.param_groups:
            order = [number[master] for master in group["params"]]
            laid = _side_by_side(group["params"], order, weights[order[0]].dtype)
            for master, at, place in zip(laid.masters, order, laid.places, strict=True):
                _move(weights[at], laid.weight[place])
                _move(master, laid.master[place])
            self._laid.append(laid)
        self._own_state()

    def _own_state(self) -> None:
        """The state that torch knows of each master is a part of its group's.

        The count of updates is the host's, which makes of it what the GPU works with.
        """
        for laid in self._laid:
            firsts, seconds = laid.cut(laid.first), laid.cut(laid.second)
            for number, master in enumerate(laid.masters):
                known = self.state[master]
                own = {"exp_avg": firsts[number], "exp_avg_sq": seconds[number]}
                for name, mine in (own | {"step": laid.steps[number]}).items():
                    if name in known:
                        mine.copy_(known[name])
                    known[name] = mine

    @torch.no_grad()
    def gather(self, gradients: Sequence[Tensor | None]) -> list[Gathered | None]:
        """Lay the gradients of the masters, in their order and shapes, side by side; None where no
        parameter of a group has one. They may go then.
        """
        return [_gathered(laid, [gradients[i] for i in laid.order]) for laid in self._laid]

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
            if len(some.given) == len(laid.masters):
                laid.steps.add_(1)
            else:
                laid.steps[some.given] += 1

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        with torch.no_grad():
            self._own_state()


def _side_by_side(masters: Sequence[nn.Parameter], order: list[int], dtype: torch.dtype) -> _Laid:
    """Memory for a group of masters, and for weights of `dtype`."""
    places: list[slice] = []
    for master in masters:
        start = -(-places[-1].stop // ALIGNED) * ALIGNED if places else 0
        places.append(slice(start, start + master.numel()))
    size = -(-places[-1].stop // ALIGNED) * ALIGNED
    weight = masters[0].new_zeros(size, dtype=dtype)
    three = [masters[0].new_zeros(size) for _ in range(3)]
    pieces: list[Tensor] = []
    real: list[int] = []
    for master, place in zip(masters, places, strict=True):
        real.append(len(pieces))
        pieces.append(three[0][place].view(master.shape))
        if gap := -master.numel() % ALIGNED:
            pieces.append(three[0][place.stop : place.stop + gap])
    steps = torch.zeros(len(masters))
    return _Laid(list(masters), order, places, pieces, real, steps, weight, *three)


def _gathered(laid: _Laid, gradients: list[Tensor | None]) -> Gathered | None:
    """The gradients of a group in memory like that of its weights."""
    numbers = [number for number, gradient in enumerate(gradients) if gradient is not None]
    found = [gradient for gradient in gradients if gradient is not None]
    if not found:
        return None
    whole = laid.weight.new_empty(laid.weight.shape, dtype=found[0].dtype)
    parts = laid.cut(whole)
    torch._foreach_copy_([parts[number] for number in numbers], found)
    return Gathered(laid, whole, _runs(laid, numbers), numbers)


def _runs(laid: _Laid, given: list[int]) -> list[tuple[slice, int]]:
    """Parts of a group that are updated alike, and the number of their next update: one, but where
    parameters have no gradient now or had none before.
    """
    runs: list[tuple[slice, int]] = []
    counts, before = laid.steps.tolist(), -2
    for number in given:
        place, count = laid.places[number], int(counts[number]) + 1
        if number == before + 1 and count == runs[-1][1]:
            runs[-1] = slice(runs[-1][0].start, place.stop), count
        else:
            runs.append((place, count))
        before = number
    return runs


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
