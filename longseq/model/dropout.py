"""Dropout whose mask is a function of seed, forward pass, place in the network, region and row.

Ranks that hold the same tokens (a whole region) have the same `region` and drop the same values;
ranks that hold different tokens or heads (a split region) have different ones. Rows are drawn in
blocks with a seed each, so that a tile of them drops what the whole would, wherever it is cut.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from longseq.host.uncompiled import uncompiled

_MASK = 2**64 - 1
ROWS = 64  # of a block on a CPU: the smallest usual tile has a multiple of them
NUMBERS = 2**22  # of a block on a GPU: to draw them takes longer than to launch that


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
    def forward(ctx: Any, x: Tensor, probability: float, seed: int, first: int) -> Tensor:
        """x of any shape → the same shape; first: the place of its first row among all rows."""
        ctx.drawn = probability, seed, first
        return _kept(x, *ctx.drawn)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None, None]:
        """dy in the shape of x."""
        return _kept(dy, *ctx.drawn), None, None, None


def _kept(x: Tensor, probability: float, seed: int, first: int) -> Tensor:
    """x / (1-p) where kept, 0 where dropped; in half precision the factor itself is not rounded,
    which would be the same way for all.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    factor = torch.ones((), dtype=wide, device="cpu").div_(1 - probability)
    return (x * _keep(x, probability, seed, first)).mul_(factor)


def _keep(like: Tensor, probability: float, seed: int, first: int) -> Tensor:
    """1 where kept, 0 where dropped, in the shape of `like`."""
    generator = torch.Generator(like.device)
    keep = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    size, stop = _block_rows(like), first + len(keep)
    for start in range(first // size * size, stop, size):
        generator.manual_seed(mix(seed, start // size))
        if first <= start and start + size <= stop:
            keep[start - first :][:size].bernoulli_(1 - probability, generator=generator)
            continue
        block = keep.new_empty(size, *keep.shape[1:])  # what is drawn depends on how much is
        block.bernoulli_(1 - probability, generator=generator)
        low, high = max(start, first), min(start + size, stop)
        keep[low - first : high - first] = block[low - start : high - start]
    return keep


def _block_rows(like: Tensor) -> int:
    """Rows that are drawn with one seed: the same for every tile of a tensor."""
    if like.device.type == "cpu":
        return ROWS
    return 1 << max(1, NUMBERS // math.prod(like.shape[1:])).bit_length() - 1


class Dropout(nn.Module):
    """Dropout at one place; `place` is unique in the network, `region` is set by parallelize."""

    def __init__(self, probability: float, seed: int, place: int) -> None:
        super().__init__()
        self.probability, self.seed, self.place, self.region = probability, seed, place, 0

    def seed_of(self, forward_pass: int) -> int:
        """The seed of this place and region in forward pass `forward_pass`."""
        return mix(self.seed, forward_pass, self.place, self.region)

    def forward(self, x: Tensor, forward_pass: int, first: int = 0) -> Tensor:
        """x of any shape, itself in evaluation; another choice in each forward pass. first: the
        place of its first row among all rows, where it is a tile of them.
        """
        if not self.training or self.probability == 0:
            return x
        return _dropped(x, self, forward_pass, first)


@uncompiled  # that would draw other masks, and be made anew for every seed
def _dropped(x: Tensor, dropout: Dropout, forward_pass: int, first: int) -> Tensor:
    """x of any shape → the same."""
    result: Tensor = _Drop.apply(x, dropout.probability, dropout.seed_of(forward_pass), first)
    return result
