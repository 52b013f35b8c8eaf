"""Rotary position embeddings (arXiv 2104.09864) in the half-split form of GPT-NeoX and Llama.

Channel i of the first half and channel i of the second half are one plane, turned by the angle
position · theta^(-2i/rotary_size); the channels behind rotary_size pass unchanged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from longseq.attention.exchange import Three


def rotary_table(positions: Tensor, size: int, theta: float) -> tuple[Tensor, Tensor]:
    """(cos, sin), each [s, b, 1, size/2] fp32, for positions [b, s].

    Angles are formed in fp64: in fp32 a position beyond 2^24 / 10 would lose the fast frequencies.
    """
    steps = torch.arange(0, size, 2, dtype=torch.float64, device=positions.device) / size
    angles = positions.t().double()[..., None, None] * theta**-steps
    return angles.cos().float(), angles.sin().float()


def turned_heads(x: Tensor, groups: int, table: tuple[Tensor, Tensor] | None) -> Three:
    """Queries, keys and values of x [s, b, queries + 2 groups, d], the first two turned; without a
    table as they are.

    Views of x, whose queries and keys are turned where they are: nobody may need x as it was. In
    compiled code, where memory is the compiler's, views of a new tensor.
    """
    if table is None:
        return _parts(x, groups)
    if torch.compiler.is_compiling():
        turning, v = x.split((x.shape[2] - groups, groups), 2)
        return _parts(torch.cat((_turned(turning, *table), v), 2), groups)
    q, k, v = _TurnedHeads.apply(x, groups, *table)
    return q, k, v


def _parts(x: Tensor, groups: int) -> Three:
    """x [s, b, queries + 2 groups, d] → queries, keys, values, [s, b, queries or groups, d]."""
    q, k, v = x.split((x.shape[2] - 2 * groups, groups, groups), 2)
    return q, k, v


class _TurnedHeads(torch.autograd.Function):
    """The gradient of a turn is the turn back, so nothing of x is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, groups: int, cos: Tensor, sin: Tensor) -> Three:
        """x [s, b, queries + 2 groups, d] → q, k, v as views of it."""
        ctx.save_for_backward(cos, sin)
        _turn(x[:, :, : x.shape[2] - groups], cos, sin, 1)
        return _parts(x, groups)

    @staticmethod
    def backward(ctx: Any, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor, None, None, None]:
        """Gradients of the parts → that of x."""
        cos, sin = ctx.saved_tensors
        dx = torch.cat((dq, dk, dv), 2)
        _turn(dx[:, :, : dx.shape[2] - dv.shape[2]], cos, sin, -1)
        return dx, None, None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> None:
    """Turn x [s, b, heads, d], in place, by sign times the angles, cos and sin [s, b or 1, 1,
    size/2].
    """
    half = cos.shape[-1]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    one, two = x[..., :half], x[..., half : 2 * half]
    before = one.clone()
    one.mul_(cos).addcmul_(two, sin, value=-sign)
    two.mul_(cos).addcmul_(before, sin, value=sign)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """What _turn gives, as a new tensor: torch.compile makes one kernel of it."""
    half = cos.shape[-1]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    one, two, rest = x.split((half, half, x.shape[-1] - 2 * half), -1)
    return torch.cat((one * cos - two * sin, two * cos + one * sin, rest), -1)
