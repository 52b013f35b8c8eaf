"""Rotary position embeddings (arXiv 2104.09864) in the half-split form of GPT-NeoX and Llama.

Channel i of the first half and channel i of the second half are one plane, turned by the angle
position · theta^(-2i/rotary_size); the channels behind rotary_size pass unchanged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rotary_table(positions: Tensor, size: int, theta: float) -> tuple[Tensor, Tensor]:
    """(cos, sin), each [s, b, 1, size/2] fp32, for positions [b, s].

    Angles are formed in fp64: in fp32 a position beyond 2^24 / 10 would lose the fast frequencies.
    """
    steps = torch.arange(0, size, 2, dtype=torch.float64, device=positions.device) / size
    angles = positions.t().double()[..., None, None] * theta**-steps
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """x [s, b, heads, d] with its leading channels turned; any strides, a new tensor out."""
    if torch.compiler.is_compiling():
        return _turned(x, *table)
    rotated: Tensor = _Rotate.apply(x, *table)
    return rotated


class _Rotate(torch.autograd.Function):
    """The gradient of a turn is the turn back, so nothing of x is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x [s, b, heads, d] → the same shape."""
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        """dy [s, b, heads, d] → the same shape."""
        cos, sin = ctx.saved_tensors
        return _turn(dy, cos, sin, -1), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    """x [s, b, heads, d] turned by sign times the angles, cos and sin [s, b or 1, 1, size/2]."""
    half = cos.shape[-1]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    one, two = x[..., :half], x[..., half : 2 * half]
    torch.mul(one, cos, out=out[..., :half]).addcmul_(two, sin, value=-sign)
    torch.mul(two, cos, out=out[..., half : 2 * half]).addcmul_(one, sin, value=sign)
    out[..., 2 * half :] = x[..., 2 * half :]
    return out


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """What _turn gives, written without memory of its own: torch.compile makes one kernel of it."""
    half = cos.shape[-1]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    one, two, rest = x.split((half, half, x.shape[-1] - 2 * half), -1)
    return torch.cat((one * cos - two * sin, two * cos + one * sin, rest), -1)
