"""LayerNorm and RMSNorm over the last dimension, [s, b, h] → [s, b, h]."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK = 2**18  # numbers of which fp32 copies exist at once: they stay in a cache

SumGradientsOf = Callable[..., tuple[Tensor | None, ...]]


def unchanged(*parameters: Tensor | None) -> tuple[Tensor | None, ...]:
    """The parameters themselves, of any shape: nobody else has them."""
    return parameters


class Norm(nn.Module):
    """A norm of `kind` layernorm (weight and bias) or rmsnorm (weight).

    `sum_gradients` gives the parameters as they are used: where several ranks hold them whole and
    each sees some of the tokens, aliases whose gradients are added up.
    """

    def __init__(self, size: int, kind: str, epsilon: float) -> None:
        super().__init__()
        self.kind, self.epsilon = kind, epsilon
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size)) if kind == "layernorm" else None
        self.sum_gradients: SumGradientsOf = unchanged

    def forward(self, x: Tensor) -> Tensor:
        """[s, b, h] → [s, b, h]."""
        weight, bias = self.sum_gradients(self.weight, self.bias)
        normed: Tensor
        compiling = torch.compiler.is_compiling()
        if self.kind == "layernorm":
            if compiling or not narrow_on_cpu(x):
                return F.layer_norm(x, x.shape[-1:], weight, bias, self.epsilon)
            normed = _LayerNorm.apply(x, weight, bias, self.epsilon)
        else:
            if compiling or x.is_cuda:  # where it is one kernel
                return F.rms_norm(x, x.shape[-1:], weight, self.epsilon)
            normed = _RMSNorm.apply(x, weight, self.epsilon)
        return normed


class _LayerNorm(torch.autograd.Function):
    """torch's, of half precision on a CPU: there it adds the gradients of weight and bias up in
    half precision, where a sum over thousands of tokens stands still. Here they are added up in
    fp32, some rows at a time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        """x [s, b, h], weight and bias [h] → [s, b, h]."""
        wide = weight.float(), bias.float()
        y, mean, scale = torch.native_layer_norm(x, x.shape[-1:], *wide, epsilon)
        ctx.save_for_backward(x, weight, bias, mean, scale)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """dy [s, b, h] → gradients in the shapes of x, weight and bias."""
        x, weight, bias, mean, scale = ctx.saved_tensors
        size, wide = x.shape[-1:], (weight.float(), bias.float())
        dx, dw, db = torch.empty_like(x), *map(torch.zeros_like, wide)
        for rows in blocks(x):
            dx[rows], w, b = torch.ops.aten.native_layer_norm_backward(
                dy[rows].float(), x[rows].float(), size, mean[rows], scale[rows], *wide, [True] * 3
            )
            dw += w
            db += b
        return dx, dw.to(weight.dtype), db.to(weight.dtype), None


class _RMSNorm(torch.autograd.Function):
    """arXiv 1910.07467, eq. 4; keeps x and a number a token, where torch on a CPU keeps fp32 copies
    of x. Some rows at a time, so that no such copy is ever whole.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """x [s, b, h], weight [h] → [s, b, h]."""
        y, scale = torch.empty_like(x), x.new_empty(*x.shape[:-1], 1, dtype=_wide(x))
        for rows in blocks(x):
            part = x[rows].to(_wide(x), copy=True)
            scale[rows] = part.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
            y[rows] = part.mul_(scale[rows]).mul_(weight)
        ctx.save_for_backward(x, weight, scale)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        """dy [s, b, h] → gradients in the shapes of x and weight."""
        x, weight, scale = ctx.saved_tensors
        dx, dw = torch.empty_like(x), torch.zeros_like(weight, dtype=_wide(x))
        for rows in blocks(x):
            normed, g = x[rows].to(_wide(x)) * scale[rows], dy[rows].to(_wide(x))
            dw += (g * normed).sum((0, 1))
            g = g * weight
            g -= normed * (g * normed).mean(-1, keepdim=True)
            dx[rows] = g.mul_(scale[rows])
        return dx, dw.to(weight.dtype), None


def narrow_on_cpu(x: Tensor) -> bool:
    """Whether x, of any shape, is of half precision on a CPU, where torch adds up in that."""
    return x.is_cpu and x.dtype != _wide(x)


def blocks(x: Tensor) -> Iterator[slice]:
    """Rows of x [s, …, h] that are worked on together."""
    step = max(1, BLOCK // max(1, x[:1].numel()))
    return (slice(start, start + step) for start in range(0, x.shape[0], step))


def _wide(x: Tensor) -> torch.dtype:
    """fp32 for half precision."""
    return torch.promote_types(x.dtype, torch.float32)
