"""Of many layers that are alike three are run, and of many tiles: the others change nothing new.

thin_layers(model, trace, alike)     # before the step
with thin_tiles(trace): …            # around it

A layer that stands in keeps what the layer before it kept, and gives gradients to its parameters,
so that the engine meets all of them; what it would compute and send is counted at the layer it is
like. Memory over the step is then that of all layers: what one holds while it works, all hold, and
the layers at both ends are run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from longseq.memory.recomputing import layer as of_layer
from longseq.memory.recomputing import tiles
from longseq.model import loss
from longseq.model.context import Context
from longseq.model.layers import Layer, RunLayer
from longseq.planning.simulate.trace import Trace
from longseq.planning.simulate.world import replaced

T = TypeVar("T")
RUN = 3  # layers, or tiles, that are run: the first, one for all between, the last


def thin_layers(layers: Sequence[Layer], trace: Trace, keep_inputs: bool = True) -> int:
    """Let all but RUN of `layers`, which are alike, stand in; returns how many do.

    keep_inputs: a layer's input waits for backward where it is, and not in host memory.
    """
    standing_in = max(0, len(layers) - RUN)
    like = _Footprint(keep_inputs)
    for number, layer in enumerate(layers):
        sample = number == 1
        if 1 < number < len(layers) - 1:
            layer.run = _StandIn(trace, like)
        else:
            times = 1 + standing_in if sample else 1
            layer.run = _Watched(layer.run, trace, times, like if sample else None)
    return standing_in


@dataclass
class _Footprint:
    """(bytes, whether on the host) of what a layer leaves alive: its output and what is kept."""

    keeps_input: bool
    left: list[tuple[int, bool]] = field(default_factory=list)

    def note(self, left: list[tuple[int, bool]]) -> None:
        """What is left now; buffers of the host stay from the first step on, and are used again."""
        on_host = [item for item in left if item[1]] or [item for item in self.left if item[1]]
        self.left = [item for item in left if not item[1]] + on_host


@dataclass
class _Watched:
    """A layer that is run, counted `times` times; what it leaves is noted in `footprint`."""

    run: RunLayer
    trace: Trace
    times: int
    footprint: _Footprint | None

    def __call__(self, layer: Layer, x: Tensor, context: Context) -> Tensor:
        """[s, b, h] → [s, b, h]."""
        trace = self.trace
        trace.keep()
        x = _At.apply(x, lambda: trace.run_times(1))
        mark = trace.mark()
        with trace.repeated(self.times):
            y = self.run(layer, x, context)
        if self.footprint is not None and torch.is_grad_enabled():
            self.footprint.note(trace.made_since(mark))
        trace.keep()
        marked: Tensor = _At.apply(y, lambda: trace.run_times(self.times))
        return marked


class _At(torch.autograd.Function):
    """Calls a function when backward comes by."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Callable[[], None]) -> Tensor:
        """x of any shape → its alias."""
        ctx.call = call
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        """dy in the shape of x, as it is."""
        ctx.call()
        return dy, None


@dataclass
class _StandIn:
    """Run in place of a layer that is like another."""

    trace: Trace
    like: _Footprint

    def __call__(self, layer: Layer, x: Tensor, context: Context) -> Tensor:
        """[s, b, h] → [s, b, h]."""
        y: Tensor = _LikeAnother.apply(x, self.like, *layer.parameters())
        self.trace.keep()
        return y


class _LikeAnother(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, like: _Footprint, *parameters: Tensor) -> Tensor:
        """x [s, b, h] → [s, b, h]; `parameters` of any shape."""
        y = torch.empty_like(x)
        rest = list(like.left)
        if (y.nbytes, False) in rest:
            rest.remove((y.nbytes, False))
        ctx.kept = [_bytes(size, "cpu" if host else x.device) for size, host in rest]
        if like.keeps_input:
            ctx.kept.append(x)
        ctx.parameters = parameters
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """dy [s, b, h] → gradients in the shapes of x and of the parameters."""
        ctx.kept.clear()
        dx = torch.empty_like(dy)
        return dx, None, *(torch.empty_like(p) for p in ctx.parameters)


def _bytes(size: int, device: torch.device | str) -> Tensor:
    return torch.empty(size, dtype=torch.uint8, device=device)


@contextmanager
def thin_tiles(trace: Trace) -> Iterator[None]:
    """Recomputed layers, and the loss, run RUN of their tiles and count them as all."""

    def few_of(make: Callable[..., Iterable[T]]) -> Callable[..., Iterator[T]]:
        return lambda *args: few(make(*args), trace)

    with (
        replaced(of_layer, "tiles", few_of(tiles.tiles)),
        replaced(loss, "_tiles", few_of(loss._tiles)),
    ):
        yield


def few(items: Iterable[T], trace: Trace) -> Iterator[T]:
    """The first, the second and the last of `items`; the second counts for all between."""
    every = list(items)
    if len(every) <= RUN:
        yield from every
        return
    yield every[0]
    with trace.repeated(len(every) - 2):
        yield every[1]
    yield every[-1]
