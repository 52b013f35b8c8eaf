"""Layer inputs in host memory between forward and backward, on a stream of their own.

    store = HostStore()
    ticket = store.put(x)        # in forward; x may be dropped at once
    x = store.take(ticket)       # in backward, in the opposite order

On CUDA the copy out hides behind the layer that follows, and the copy in behind the layer before
it: taking one asks for the next. The copies out of one step reuse the pinned buffers of the last.
On a CPU, where the tests run it, a copy goes to other memory of the host.

torch rounds pinned memory up to a power of two: 1.5 GiB would take 2. A copy is made of pieces that
are powers of two, or nearly.

All memory of the device is of the stream that computes, which waits for a copy before it gives
back or uses what is copied. With record_stream in place of that, memory would come back when the
device has come by; the host runs ahead of it, and would have made room for every layer by then.
An H200 has run it, equal, and with the memory that it should have (docs/gpu.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

PIECES = 8  # of a copy, at most: what its last one is rounded up by is less than a 128th of all


class HostCopy:
    """Memory of the host for a tensor of the shape and type of `x`."""

    def __init__(self, x: Tensor) -> None:
        self.shape, self.dtype = x.shape, x.dtype
        self.sizes = piece_sizes(x.numel())
        self.pieces = [
            torch.empty(size, dtype=x.dtype, pin_memory=x.is_cuda) for size in self.sizes
        ]

    def read(self, x: Tensor) -> None:
        """Copy contiguous `x` here."""
        for piece, part in zip(self.pieces, x.view(-1).split(self.sizes), strict=True):
            piece.copy_(part, non_blocking=True)

    def write(self, x: Tensor) -> None:
        """Copy what is here to contiguous `x`."""
        for piece, part in zip(self.pieces, x.view(-1).split(self.sizes), strict=True):
            part.copy_(piece, non_blocking=True)


def piece_sizes(count: int) -> list[int]:
    """Powers of two that add up to `count`; the last of PIECES is what is left."""
    sizes: list[int] = []
    while count and len(sizes) < PIECES - 1:
        sizes.append(1 << count.bit_length() - 1)
        count -= sizes[-1]
    return [*sizes, count] if count else sizes


@dataclass(eq=False)
class Ticket:
    """One tensor that is out: where its copy lies, and once it is asked for, where it arrives and
    the event of its arrival.
    """

    copy: HostCopy
    device: torch.device
    coming: Tensor | None = None
    arrived: Any = None


class HostStore:
    """Tensors of one training's layers, last in first out."""

    def __init__(self) -> None:
        self._out: list[Ticket] = []
        self._free: list[HostCopy] = []
        self._leaving: list[tuple[Tensor, Any]] = []  # each with the event of its copy's end
        self._stream: Any = None

    def put(self, x: Tensor) -> Ticket:
        """Start copying contiguous `x`, of any shape, out."""
        copy = self._buffer(x)
        if x.is_cuda:
            self._leaving.append((x, self._beside(copy.read, x)))
            self._let_go(1)
        else:
            copy.read(x)
        ticket = Ticket(copy, x.device)
        self._out.append(ticket)
        return ticket

    def take(self, ticket: Ticket) -> Tensor:
        """The tensor in its shape, on its device; starts fetching the one put before it."""
        self._let_go(0)
        self._fetch(ticket)
        at = self._out.index(ticket)
        if at > 0:
            self._fetch(self._out[at - 1])
        del self._out[at]
        if ticket.arrived is not None:
            torch.cuda.current_stream(ticket.device).wait_event(ticket.arrived)
        self._free.append(ticket.copy)
        x, ticket.coming = ticket.coming, None  # a ticket lives as long as autograd's graph
        assert x is not None
        return x

    def _fetch(self, ticket: Ticket) -> None:
        if ticket.coming is not None:
            return
        copy = ticket.copy
        ticket.coming = torch.empty(copy.shape, dtype=copy.dtype, device=ticket.device)
        if ticket.device.type == "cuda":
            ticket.arrived = self._beside(copy.write, ticket.coming)
        else:
            copy.write(ticket.coming)

    def _let_go(self, kept: int) -> None:
        """Drop all but the last `kept` of those that leave, once the device has their copies."""
        while len(self._leaving) > kept:
            x, left = self._leaving.pop(0)
            torch.cuda.current_stream(x.device).wait_event(left)

    def _beside(self, copy: Callable[[Tensor], None], x: Tensor) -> Any:
        """Copy `x` when the device has done all it was told until now, beside what it is told from
        now on; gives the event of the end.
        """
        if self._stream is None:
            self._stream = torch.cuda.Stream(x.device)
        self._stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(self._stream):
            copy(x)
            return self._stream.record_event()

    def _buffer(self, x: Tensor) -> HostCopy:
        """Memory of the host in the shape and type of `x`, used again where it fits."""
        for number, free in enumerate(self._free):
            if free.shape == x.shape and free.dtype == x.dtype:
                return self._free.pop(number)
        self._free.clear()  # another length: a curriculum has moved on
        return HostCopy(x)
