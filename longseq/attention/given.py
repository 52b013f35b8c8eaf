"""Gradients of a part of the network from those of its outputs, where it is made again in backward.

    with torch.enable_grad():
        y = part(x)
    (dx,) = gradients([y], [x], [dy])

torch.autograd.grad compares the shapes of what it is given by rules for symbols, and imports sympy
for them: a third of a second and 30 MiB of every rank. On GPUs, where compiled layers import it
anyway, and where each operation more is a launch, it is asked as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class _Begin(torch.autograd.Function):
    """Its backward begins with gradients that are given."""

    @staticmethod
    def forward(ctx: Any, *both: Tensor) -> Tensor:
        """Outputs, then as many gradients in their shapes → a scalar of no meaning."""
        ctx.save_for_backward(*both[len(both) // 2 :])
        return both[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the outputs, in their shapes."""
        given: tuple[Tensor, ...] = ctx.saved_tensors
        return *given, *(None for _ in given)


def gradients(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], given: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Of `inputs`, in their shapes; None where no output depends on one. given: of the outputs."""
    if given[0].device.type != "cpu":
        return torch.autograd.grad(outputs, inputs, given, allow_unused=True)
    return torch.autograd.grad(begin(outputs, given), inputs, allow_unused=True)


def begin(outputs: Sequence[Tensor], given: Sequence[Tensor]) -> Tensor:
    """A scalar whose gradients are those of `outputs` that are given; it keeps no output."""
    with torch.enable_grad():
        end: Tensor = _Begin.apply(*outputs, *given)
    return end
