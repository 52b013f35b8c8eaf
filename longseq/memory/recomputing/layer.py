"""A layer whose forward pass keeps its input alone, or that and what attention gave.

    layer.run = partial(recomputed, options=RecomputeOptions(tile=1024))

Backward makes the rest again, tile by tile over the sequence, so that beside the input and the
output of the layer only attention's own tensors ever exist for all tokens: q, k, v, the output and
their gradients. A layer has three parts, of which only the second looks from token to token:

    q, k, v = layer.heads(x)       norm, projections, rotary positions
    o = layer.attention.attend(…)  the kernel, between the exchange's scatter_heads and gather_heads
    y = layer.finish(x, o)         projection, residual, norm, MLP, residual
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from longseq.attention.exchange import Three
from longseq.attention.given import gradients
from longseq.memory.recomputing.detached_attention import DetachedAttention
from longseq.memory.recomputing.offload import HostStore, Ticket
from longseq.memory.recomputing.tiles import Tile, tiles
from longseq.model.context import Context
from longseq.model.layers import Layer


@dataclass(frozen=True)
class RecomputeOptions:
    """How a layer is recomputed.

    tile: rows of x that are worked on at once, 0 for all of them.
    keep_attention: keep the kernel's output, so that the kernel runs once and not twice.
    parts: how many times more tokens the heads have than x (the tensor-parallel ranks under
        sequence parallelism, else 1).
    store: where a layer's input waits between forward and backward; None leaves it where it is.
    """

    tile: int = 0
    keep_attention: bool = False
    parts: int = 1
    store: HostStore | None = None


def recomputed(layer: Layer, x: Tensor, context: Context, options: RecomputeOptions) -> Tensor:
    """What as_written(layer, x, context) gives, [s, b, h] → [s, b, h], keeping x alone."""
    call = _Call(layer, context, options, torch.is_grad_enabled())
    parameters = [p for p in layer.parameters() if p.requires_grad]
    y: Tensor = _Recomputed.apply(call, x, *parameters)
    return y


@dataclass(frozen=True)
class _Call:
    """One forward pass through one layer; `learns`: a backward pass follows."""

    layer: Layer
    context: Context
    options: RecomputeOptions
    learns: bool

    def tiles(self, x: Tensor) -> Iterator[Tile]:
        """The tiles of x [s, b, h]."""
        return tiles(x.shape[0], self.options.tile, self.options.parts)

    def context_of(self, tile: Tile) -> Context:
        """The context of one tile's tokens."""
        context = self.context
        return replace(
            context,
            rotary=context.rotary and (tile.of(context.rotary[0]), tile.of(context.rotary[1])),
            first=tile.rows.start,
        )

    def heads(self, x: Tensor, tile: Tile) -> Three:
        """q, k and v of one tile, x [rows, b, h]."""
        return self.layer.heads(x, self.context_of(tile))

    def finish(self, x: Tensor, attended: Tensor, tile: Tile) -> Tensor:
        """The rest of the layer for one tile, [rows, b, h]."""
        return self.layer.finish(x, attended, self.context_of(tile))

    def all_heads(self, x: Tensor) -> Three:
        """q, k and v of all tokens, each [s, b, heads, d]."""
        s = x.shape[0] * self.options.parts
        whole: list[Tensor] = []
        for tile in self.tiles(x):
            q, k, v = self.heads(x[tile.rows], tile)
            if q.shape[0] == s:
                return q.contiguous(), k.contiguous(), v.contiguous()
            whole = whole or [piece.new_empty(s, *piece.shape[1:]) for piece in (q, k, v)]
            for all_tokens, piece in zip(whole, (q, k, v), strict=True):
                tile.put(all_tokens, piece)
        return whole[0], whole[1], whole[2]

    def inputs(self, x: Tensor) -> Three:
        """q, k and v [s, b, …, d] as the kernel gets them."""
        return self.layer.attention.exchange.scatter_heads(*self.all_heads(x))

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> DetachedAttention:
        """The kernel's graph for q, k and v [s, b, …, d] as the exchange gives them."""
        return DetachedAttention(
            lambda q, k, v: self.layer.attention.attend(q, k, v, self.context),
            q,
            k,
            v,
            keep_inputs=not self.options.keep_attention,
        )


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor, *parameters: Tensor) -> Tensor:
        """x [s, b, h] → [s, b, h]; `parameters` are the layer's, of any shape."""
        layer, exchange = call.layer, call.layer.attention.exchange
        ctx.call, ctx.attended = call, None
        inputs = call.inputs(x)
        if call.learns and call.options.keep_attention:
            ctx.attended = call.attended(*inputs)
            output = ctx.attended.output
        else:
            output = layer.attention.attend(*inputs, call.context)
        del inputs
        o = exchange.gather_heads(output)
        del output
        y = torch.empty_like(x)
        for tile in call.tiles(x):
            y[tile.rows] = call.finish(x[tile.rows], tile.of(o), tile)
        if call.learns:
            ctx.ticket = call.options.store.put(x) if call.options.store else None
            ctx.save_for_backward(*([] if ctx.ticket else [x]), *parameters)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """dy [s, b, h] → gradients in the shapes of x and of the parameters."""
        call: _Call = ctx.call
        ticket: Ticket | None = ctx.ticket
        if ticket:
            assert call.options.store is not None
            x, parameters = call.options.store.take(ticket), list(ctx.saved_tensors)
        else:
            x, *parameters = ctx.saved_tensors
        sums = _Sums(parameters)
        exchange = call.layer.attention.exchange
        # Nothing here holds the kernel's inputs, so that they go when the graph is done with them
        attended: DetachedAttention = ctx.attended or call.attended(*call.inputs(x))
        ctx.attended = None
        if attended.lacks_inputs:
            attended.give(*call.inputs(x))
        dx, d_o = _finish_backward(call, x, exchange.gather_heads(attended.output), dy, sums)
        d_output = exchange.gather_heads_gradient(d_o)
        del d_o
        gradients = attended.backward(d_output)
        del d_output, attended
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
        """Add gradients in the shapes of the parameters, None for those that got none."""
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
        """The sums, in the shapes and types of the parameters; each goes when it is turned."""
        found: list[Tensor | None] = []
        for number, parameter in enumerate(self.parameters):
            total, self._sums[number] = self._sums[number], None
            found.append(None if total is None else total.to(parameter.dtype))
        return found


def _finish_backward(
    call: _Call, x: Tensor, o: Tensor, dy: Tensor, sums: _Sums
) -> tuple[Tensor, Tensor]:
    """Gradients of x [s, b, h], through the residual and the MLP, and of o [s, b, heads, d]."""
    dx, d_o = torch.empty_like(x), torch.empty_like(o)
    for tile in call.tiles(x):
        with torch.enable_grad():
            here = x[tile.rows].detach().requires_grad_()
            given = tile.of(o).detach().requires_grad_()
            y = call.finish(here, given, tile)
        found = gradients([y], [here, given, *sums.parameters], [dy[tile.rows]])
        assert found[0] is not None
        assert found[1] is not None
        dx[tile.rows] = found[0]
        tile.put(d_o, found[1])
        sums.add(found[2:])
    return dx, d_o


def _heads_backward(
    call: _Call, x: Tensor, d_heads: Sequence[Tensor], dx: Tensor, sums: _Sums
) -> None:
    """Adds to dx [s, b, h] what comes through q, k and v [s, b, heads or groups, d]."""
    for tile in call.tiles(x):
        with torch.enable_grad():
            here = x[tile.rows].detach().requires_grad_()
            pieces = call.heads(here, tile)
        found = gradients(pieces, [here, *sums.parameters], [tile.of(d) for d in d_heads])
        assert found[0] is not None
        dx[tile.rows] += found[0]
        sums.add(found[1:])
