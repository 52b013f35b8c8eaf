"""Dropout whose mask is a function of seed, forward pass, place in the network and region.

Ranks that hold the same tokens (a whole region) have the same `region` and drop the same values;
ranks that hold different tokens or heads (a split region) have different ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from longseq.host.uncompiled import uncompiled

_MASK = 2**64 - 1


def mix(*numbers: int) -> int:
    """A 63-bit seed from whole numbers, by SplitMix64's finaliser (Steele et al., OOPSLA 2014)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


class _Drop(torch.autograd.Function):
    """Keeps the seed for backward, not the mask."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, probability: float, seed: int) -> Tensor:
        """x of any shape → the same shape."""
        ctx.probability, ctx.seed = probability, seed
        return x * _keep(x, probability, seed)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        """dy in the shape of x."""
        return dy * _keep(dy, ctx.probability, ctx.seed), None, None


def _keep(like: Tensor, probability: float, seed: int) -> Tensor:
    """1/(1-p) where kept, 0 where dropped, in the shape of `like`."""
    generator = torch.Generator(like.device).manual_seed(seed)
    keep = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    return keep.bernoulli_(1 - probability, generator=generator).div_(1 - probability)


class Dropout(nn.Module):
    """Dropout at one place; `place` is unique in the network, `region` is set by parallelize."""

    def __init__(self, probability: float, seed: int, place: int) -> None:
        super().__init__()
        self.probability, self.seed, self.place, self.region = probability, seed, place, 0

    def seed_of(self, forward_pass: int) -> int:
        """The seed of this place and region in forward pass `forward_pass`."""
        return mix(self.seed, forward_pass, self.place, self.region)

    def forward(self, x: Tensor, forward_pass: int) -> Tensor:
        """x of any shape, itself in evaluation; another choice in each forward pass."""
        if not self.training or self.probability == 0:
            return x
        return _uncompiled(x, self, forward_pass)


def _dropped(x: Tensor, dropout: Dropout, forward_pass: int) -> Tensor:
    """x of any shape → the same."""
    result: Tensor = _Drop.apply(x, dropout.probability, dropout.seed_of(forward_pass))
    return result


# Compiled code would draw other masks, and be made anew for every seed
_uncompiled: Callable[[Tensor, Dropout, int], Tensor] = uncompiled(_dropped)
