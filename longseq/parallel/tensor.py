"""Megatron's tensor parallelism, with and without its sequence parallelism.

A column-parallel linear holds some of the output features, a row-parallel one some of the input
features; between the two, each rank works on its own heads or its own part of the MLP. With
sequence parallelism the layers outside hold [s/tp, b, h]: the column layer gathers the sequence on
its way in and the row layer scatters the sum on its way out, in pieces that hide behind the matmul;
backward gathers the input again instead of keeping it (arXiv 2205.05198, section 4.2.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longseq.host.uncompiled import uncompiled
from longseq.parallel.collectives import Gather, ScatterSum, all_reduce
from longseq.parallel.mesh import Group
from longseq.parallel.sharding import Sharding, shard_parameter


class _GatherLinear(torch.autograd.Function):
    """[s/tp, b, i] → [s, b, o/tp]: y = gather(x) Wᵀ + bias; keeps only the local x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, group: Group) -> Tensor:
        """x [s/tp, b, i], weight [o/tp, i], bias [o/tp] → [s, b, o/tp]."""
        ctx.save_for_backward(x, weight)
        ctx.group, ctx.has_bias = group, bias is not None
        n = x.shape[0]
        y = x.new_empty(n * group.size, x.shape[1], weight.shape[0])
        for rank, piece in Gather(x, group).pieces():
            _linear_into(y[rank * n : (rank + 1) * n], piece, weight, bias)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """dy [s, b, o/tp] → gradients in the shapes of x, weight and bias."""
        x, weight = ctx.saved_tensors
        group, n = ctx.group, x.shape[0]
        again = Gather(x, group)
        total = ScatterSum(group)
        for rank in total.order():
            total.give(rank, dy[rank * n : (rank + 1) * n] @ weight)
        dw = torch.zeros_like(weight)
        for rank, piece in again.pieces():
            dw.addmm_(dy[rank * n : (rank + 1) * n].flatten(0, 1).t(), piece.flatten(0, 1))
        db = dy.sum((0, 1)) if ctx.has_bias else None
        return total.result(), dw, db, None


class _LinearScatter(torch.autograd.Function):
    """[s, b, i/tp] → [s/tp, b, o]: this rank's part of the sum over ranks of x Wᵀ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, group: Group) -> Tensor:
        """x [s, b, i/tp], weight [o, i/tp] → [s/tp, b, o]."""
        ctx.save_for_backward(x, weight)
        ctx.group = group
        n = x.shape[0] // group.size
        total = ScatterSum(group)
        for rank in total.order():
            total.give(rank, F.linear(x[rank * n : (rank + 1) * n], weight))
        return total.result()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """dy [s/tp, b, o] → gradients in the shapes of x and weight."""
        x, weight = ctx.saved_tensors
        n = dy.shape[0]
        # Written flat, whatever the strides of x: a ring's output has one sample behind the other
        dx = torch.empty_like(x, memory_format=torch.contiguous_format)
        dw = torch.zeros_like(weight)
        for rank, piece in Gather(dy, ctx.group).pieces():
            here = slice(rank * n, (rank + 1) * n)
            _linear_into(dx[here], piece, weight.t(), None)
            dw.addmm_(piece.flatten(0, 1).t(), x[here].flatten(0, 1))
        return dx, dw, None


def _linear_into(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """out [n, b, o] = x [n, b, i] Wᵀ + bias, in place; out is a contiguous part of a tensor."""
    flat = out.view(-1, out.shape[-1])
    if bias is None:
        torch.mm(x.flatten(0, 1), weight.t(), out=flat)
    else:
        torch.addmm(bias, x.flatten(0, 1), weight.t(), out=flat)


class _CopyIn(torch.autograd.Function):
    """Identity whose gradients are summed over the group, in one message."""

    @staticmethod
    def forward(ctx: Any, group: Group, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Tensors of any shape → their aliases."""
        ctx.group = group
        return tuple(x.view_as(x) for x in tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients in these shapes → their sums over the group."""
        flat = torch.cat([g.reshape(-1) for g in grads])
        all_reduce(flat, ctx.group)
        parts = flat.split([g.numel() for g in grads])
        return None, *(part.view_as(g) for part, g in zip(parts, grads, strict=True))


class _SumOut(torch.autograd.Function):
    """The sum over the group; the gradient passes through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        """x of any shape → the sum, in the same shape."""
        return all_reduce(x.clone(), group)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        """dy in the shape of x, as it is."""
        return dy, None


def sum_out(x: Tensor, group: Group) -> Tensor:
    """x of any shape → the sum over the group, on every rank; the gradient passes through."""
    total: Tensor = _SumOut.apply(x, group)
    return total


class SumGradients:
    """Aliases of parameters that every rank holds whole, whose gradients need the group's sum.

    Under sequence parallelism each rank sees some of the tokens, so the gradient of a norm or of a
    bias behind a row-parallel layer is a partial sum; nobody else adds them up.
    """

    def __init__(self, group: Group) -> None:
        self.group = group

    @uncompiled
    def __call__(self, *parameters: Tensor | None) -> tuple[Tensor | None, ...]:
        """Parameters of any shape, or None → their aliases, in the same order."""
        given = [p for p in parameters if p is not None]
        shared = iter(_CopyIn.apply(self.group, *given))
        return tuple(None if p is None else next(shared) for p in parameters)


class ColumnParallelLinear(nn.Linear):
    """[s/tp or s, b, i] → [s, b, o/tp]; `parts` of the output are sharded one by one.

    `linear`, here and in the next, multiplies where no message stands in the product.
    """

    def __init__(
        self, plain: nn.Linear, group: Group, sequence_parallel: bool, parts: tuple[int, ...] = ()
    ) -> None:
        # Memory is plain's: what Linear makes here never gets any
        super().__init__(plain.in_features, plain.out_features // group.size, device="meta")
        sharding = Sharding(0, parts or (plain.out_features,), group.rank, group.size)
        self.weight = shard_parameter(plain.weight, sharding)
        bias = None if plain.bias is None else shard_parameter(plain.bias, sharding)
        self.register_parameter("bias", bias)
        self.group, self.sequence_parallel = group, sequence_parallel
        self.linear: Callable[..., Tensor] = F.linear

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        """[s/tp, b, i] under sequence parallelism, else [s, b, i] → [s, b, o/tp]."""
        if self.sequence_parallel:
            return _GatherLinear.apply(x, self.weight, self.bias, self.group)
        return self.linear(_CopyIn.apply(self.group, x)[0], self.weight, self.bias)


class RowParallelLinear(nn.Linear):
    """[s, b, i/tp] → [s/tp or s, b, o]; the bias is whole and added once."""

    def __init__(self, plain: nn.Linear, group: Group, sequence_parallel: bool) -> None:
        super().__init__(plain.in_features // group.size, plain.out_features, device="meta")
        sharding = Sharding(1, (plain.in_features,), group.rank, group.size)
        self.weight = shard_parameter(plain.weight, sharding)
        self.bias = plain.bias
        self.group, self.sequence_parallel = group, sequence_parallel
        self.sum_gradients = SumGradients(group)
        self.linear: Callable[..., Tensor] = F.linear

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        """[s, b, i/tp] → [s/tp, b, o] under sequence parallelism, else [s, b, o]."""
        if not self.sequence_parallel:
            y = sum_out(self.linear(x, self.weight), self.group)
            return y if self.bias is None else y + self.bias
        y = _LinearScatter.apply(x, self.weight, self.group)
        (bias,) = self.sum_gradients(self.bias)
        return y if bias is None else y + bias
