"""A layer whose forward pass keeps its input alone, or that and what attention gave.

    y = recomputed(layer, x, context, how)

Backward makes the rest again, tile by tile over the sequence, so that beside the input and the
output of the layer only attention's own tensors ever exist for all tokens: q, k, v, the output and
their gradients. A layer has three parts, of which only the second looks from token to token:

    q, k, v = layer.heads(x)       norm, projections, rotary positions
    o = layer.attend(q, k, v)      the kernel, between the exchange of Ulysses there and back
    y = layer.finish(x, o)         projection, residual, norm, MLP, residual
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longseq.memory.detached_attention import DetachedAttention
from longseq.memory.offload import HostStore, Ticket
from longseq.memory.tiles import Tile, tiles


@dataclass(frozen=True)
class How:
    """tile: rows of x worked on at once, 0 all; keep_attention: run the kernel once, not twice.

    parts: how many times more tokens the heads have than x (tensor-parallel ranks under sequence
    parallelism, else 1). store: where inputs go between forward and backward, None: nowhere.
    """

    tile: int = 0
    keep_attention: bool = False
    parts: int = 1
    store: HostStore | None = None


def recomputed(layer: Any, x: Tensor, context: Any, how: How) -> Tensor:
    """layer(x, context), [s, b, h] → [s, b, h]."""
    call = _Call(layer, context, how, torch.is_grad_enabled())
    parameters = [p for p in layer.parameters() if p.requires_grad]
    y: Tensor = _Recomputed.apply(call, x, *parameters)
    return y


@dataclass(frozen=True)
class _Call:
    layer: Any
    context: Any
    how: How
    learns: bool

    def tiles(self, x: Tensor) -> list[Tile]:
        return list(tiles(x.shape[0], self.how.tile, self.how.parts))

    def heads(self, x: Tensor, tile: Tile) -> tuple[Tensor, Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor] = self.layer.heads(x, self.context.part(tile))
        return found

    def all_heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """q, k and v of all tokens, each [s, b, heads, d]."""
        whole: tuple[Tensor, ...] = ()
        every = self.tiles(x)
        for tile in every:
            pieces = self.heads(x[tile.rows], tile)
            if len(every) == 1:
                return tuple(piece.contiguous() for piece in pieces)
            if not whole:
                s = x.shape[0] * self.how.parts
                whole = tuple(piece.new_empty(s, *piece.shape[1:]) for piece in pieces)
            for w, piece in zip(whole, pieces, strict=True):
                tile.put(w, piece)
        return whole

    def attended(self, inputs: Sequence[Tensor]) -> DetachedAttention:
        """The kernel's graph for q, k and v as the exchange gives them."""
        return DetachedAttention(
            lambda q, k, v: self.layer.attention.attend(q, k, v, self.context),
            inputs[0],
            inputs[1],
            inputs[2],
            keep_inputs=not self.how.keep_attention,
        )


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor, *parameters: Tensor) -> Tensor:
        layer, exchange = call.layer, call.layer.attention.exchange
        ctx.call, ctx.attended = call, None
        inputs = exchange.scatter_heads(*call.all_heads(x))
        if call.learns and call.how.keep_attention:
            ctx.attended = call.attended(inputs)
            output = ctx.attended.output
        else:
            output = layer.attention.attend(*inputs, call.context)
        del inputs
        o = exchange.gather_heads(output)
        del output
        y = torch.empty_like(x)
        for tile in call.tiles(x):
            y[tile.rows] = layer.finish(x[tile.rows], tile.of(o), call.context.part(tile))
        if call.learns:
            ctx.ticket = call.how.store.put(x) if call.how.store else None
            ctx.save_for_backward(*([] if ctx.ticket else [x]), *parameters)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        ticket: Ticket | None = ctx.ticket
        if ticket:
            assert call.how.store is not None
            x, parameters = call.how.store.take(ticket), list(ctx.saved_tensors)
        else:
            x, *parameters = ctx.saved_tensors
        sums = _Sums(parameters)
        exchange = call.layer.attention.exchange
        heads = call.all_heads(x)
        inputs = exchange.scatter_heads(*heads)
        del heads
        attended = ctx.attended or call.attended(inputs)
        ctx.attended = None
        dx, d_o = _finish_backward(call, x, exchange.gather_heads(attended.output), dy, sums)
        d_output = exchange.gather_heads_gradient(d_o)
        del d_o
        gradients = attended.backward(d_output, *inputs)
        del d_output, inputs, attended
        d_heads = exchange.scatter_heads_gradient(*gradients)
        del gradients
        _heads_backward(call, x, d_heads, dx, sums)
        return None, dx, *sums.gradients()


class _Sums:
    """Gradients of the parameters, summed over tiles in fp32 at least."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        self._sums: list[Tensor | None] = [None] * len(self.parameters)

    def add(self, gradients: Sequence[Tensor | None]) -> None:
        for number, gradient in enumerate(gradients):
            if gradient is None:
                continue
            total = self._sums[number]
            if total is None:
                whole = torch.promote_types(gradient.dtype, torch.float32)
                self._sums[number] = gradient.to(whole)
            else:
                total.add_(gradient)

    def gradients(self) -> list[Tensor | None]:
        pairs = zip(self._sums, self.parameters, strict=True)
        return [None if total is None else total.to(p.dtype) for total, p in pairs]


def _finish_backward(
    call: _Call, x: Tensor, o: Tensor, dy: Tensor, sums: _Sums
) -> tuple[Tensor, Tensor]:
    """Gradients of x, through the residual and the MLP, and of attention's output."""
    dx, d_o = torch.empty_like(x), torch.empty_like(o)
    for tile in call.tiles(x):
        with torch.enable_grad():
            here = x[tile.rows].detach().requires_grad_()
            given = tile.of(o).detach().requires_grad_()
            y = call.layer.finish(here, given, call.context.part(tile))
        found = torch.autograd.grad(
            y, [here, given, *sums.parameters], dy[tile.rows], allow_unused=True
        )
        assert found[0] is not None
        assert found[1] is not None
        dx[tile.rows] = found[0]
        tile.put(d_o, found[1])
        sums.add(found[2:])
    return dx, d_o


def _heads_backward(
    call: _Call, x: Tensor, d_heads: Sequence[Tensor], dx: Tensor, sums: _Sums
) -> None:
    """Adds to `dx` what comes through q, k and v."""
    for tile in call.tiles(x):
        with torch.enable_grad():
            here = x[tile.rows].detach().requires_grad_()
            pieces = call.heads(here, tile)
        found = torch.autograd.grad(
            pieces, [here, *sums.parameters], [tile.of(d) for d in d_heads], allow_unused=True
        )
        assert found[0] is not None
        dx[tile.rows] += found[0]
        sums.add(found[1:])
