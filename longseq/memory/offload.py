"""Layer inputs in host memory between forward and backward, on a stream of their own.

    store = HostStore()
    ticket = store.put(x)        # in forward; x may be dropped at once
    x = store.take(ticket)       # in backward, in the opposite order

On CUDA the copy out hides behind the layer that follows, and the copy in behind the layer before
it: taking one asks for the next. The copies out of one step reuse the pinned buffers of the last.
On a CPU, where the tests run it, a copy goes to other memory of the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(eq=False)
class Ticket:
    """One tensor that is out: where its copy lies, and once it is asked for, where it arrives."""

    copy: Tensor
    device: torch.device
    coming: Tensor | None = None


class HostStore:
    """Tensors of one training's layers, last in first out."""

    def __init__(self) -> None:
        self._out: list[Ticket] = []
        self._free: list[Tensor] = []
        self._stream: Any = None

    def put(self, x: Tensor) -> Ticket:
        """Start copying contiguous `x`, of any shape, out."""
        copy = self._buffer(x)
        if x.is_cuda:
            stream = self._own_stream(x)
            stream.wait_stream(torch.cuda.current_stream(x.device))
            with torch.cuda.stream(stream):
                copy.copy_(x, non_blocking=True)
            x.record_stream(stream)
        else:
            copy.copy_(x)
        ticket = Ticket(copy, x.device)
        self._out.append(ticket)
        return ticket

    def take(self, ticket: Ticket) -> Tensor:
        """The tensor in its shape, on its device; starts fetching the one put before it."""
        self._fetch(ticket)
        at = self._out.index(ticket)
        if at > 0:
            self._fetch(self._out[at - 1])
        del self._out[at]
        if ticket.device.type == "cuda":
            torch.cuda.current_stream(ticket.device).wait_stream(self._stream)
        self._free.append(ticket.copy)
        assert ticket.coming is not None
        return ticket.coming

    def _fetch(self, ticket: Ticket) -> None:
        if ticket.coming is not None:
            return
        if ticket.device.type == "cuda":
            with torch.cuda.stream(self._stream):
                ticket.coming = ticket.copy.to(ticket.device, non_blocking=True)
            ticket.coming.record_stream(torch.cuda.current_stream(ticket.device))
        else:
            ticket.coming = ticket.copy.to(ticket.device, copy=True)

    def _buffer(self, x: Tensor) -> Tensor:
        """Memory of the host in the shape and type of `x`, used again where it fits."""
        for number, free in enumerate(self._free):
            if free.shape == x.shape and free.dtype == x.dtype:
                return self._free.pop(number)
        self._free.clear()  # another length: a curriculum has moved on
        return torch.empty(x.shape, dtype=x.dtype, pin_memory=x.is_cuda)

    def _own_stream(self, x: Tensor) -> Any:
        if self._stream is None:
            self._stream = torch.cuda.Stream(x.device)
        return self._stream
