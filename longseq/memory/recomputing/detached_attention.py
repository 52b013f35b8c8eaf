"""One call of an attention kernel whose inputs are dropped, and given back for backward.

    kept = DetachedAttention(attend, q, k, v, keep_inputs=False)     # attend(q, k, v) → output
    kept.output
    if kept.lacks_inputs:
        kept.give(q, k, v)                                  # … the same inputs, made again
    dq, dk, dv = kept.backward(gradient)

A flash kernel keeps its inputs, its output and a number a row. The inputs follow from the layer's
input by arithmetic that grows with s, so they are made again; the kernel's own arithmetic grows
with s², so that it runs once. A kernel that keeps copies in host memory lacks nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from longseq.attention.given import begin

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Gradients = tuple[Tensor, Tensor, Tensor]


class _Entrance(torch.autograd.Function):
    """Passes q, k and v on, and in backward appends their gradients to the list `found`.

    The only input that requires a gradient is a scalar, `_ticket`. Leaves made of q, k and v would
    keep them alive as long as the graph, and dropping them is what this is for.
    """

    @staticmethod
    def forward(ctx: Any, _ticket: Tensor, found: list[Tensor], *inputs: Tensor) -> Any:
        """q, k and v, [s, b, heads or groups, d] → their aliases."""
        ctx.found = found
        return tuple(x.view_as(x) for x in inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients in these shapes, kept in `found`; a scalar for the ticket."""
        ctx.found.extend(gradients)
        return torch.zeros(()), None, *(None for _ in gradients)


class DetachedAttention:
    """The autograd graph of one call of a kernel, apart from every other graph.

    q, k, v and output as the kernel's, [s, b, heads, d]. With `keep_inputs` the graph keeps of q, k
    and v what it needs; without, nothing of them, and where that makes it lack something, backward
    must be given equal ones.
    """

    def __init__(
        self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, keep_inputs: bool = True
    ) -> None:
        self.lacks_inputs = False
        self._ticket = torch.zeros((), requires_grad=True)
        self._found: list[Tensor] = []
        self._inputs: tuple[Tensor, ...] = ()
        # By identity: storages without memory, on the meta device, have no address
        self._storages = [x.untyped_storage()._cdata for x in (q, k, v)]
        hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)
        with torch.enable_grad(), nullcontext() if keep_inputs else hooks:
            entered = _Entrance.apply(self._ticket, self._found, q, k, v)
            self._output: Tensor | None = attend(*entered)
        self._storages = []

    @property
    def output(self) -> Tensor:
        """What the kernel gave, [s, b, heads, d], apart from the graph."""
        assert self._output is not None, "backward has run already"
        return self._output.detach()

    def _pack(self, saved: Tensor) -> Any:
        place = saved.untyped_storage()._cdata
        if place not in self._storages:
            return saved.detach()
        self.lacks_inputs = True
        number = self._storages.index(place)
        return number, saved.size(), saved.stride(), saved.storage_offset()

    def _unpack(self, packed: Any) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        number, *shape = packed
        return self._inputs[number].as_strided(*shape)

    def give(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        """q, k and v equal to those of the call, in the same layout, until backward has run."""
        self._inputs = (q, k, v)

    def backward(self, gradient: Tensor) -> Gradients:
        """gradient [s, b, heads, d] → those of q, k and v, in their shapes."""
        assert self._output is not None
        # The output itself goes now, unless the graph has kept it
        if gradient.device.type == "cpu":
            end, self._output = begin([self._output], [gradient]), None
            torch.autograd.grad(end, self._ticket)
        else:
            edge, self._output = get_gradient_edge(self._output), None
            torch.autograd.grad((edge,), (self._ticket,), (gradient,))
        self._inputs = ()
        dq, dk, dv = self._found
        self._found.clear()
        return dq, dk, dv
