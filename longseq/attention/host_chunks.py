"""Chunks of a tensor that wait in host memory, and come back one ahead of their use.

    host = HostChunks(chunk, on_host=True, device=q.device)
    kept = [host.put(chunk) for chunk in host.places(q)]     # along dim 2
    host.settle()                        # q may be dropped
    for here in host.fetch(kept): …      # `here` until the next one is asked for

    sums = host.sums(chunks)             # fp32, of the same shapes
    for total in sums.fetch(first): total += …

Without `on_host` the chunks are views and nothing is copied. With it a fetch owns two places on the
device, one at work and one being filled: the CPU runs far ahead of a GPU, and would otherwise ask
for the memory of every chunk at once. Copies both ways go over one stream, in the order in which
they are asked for, beside the work; that waits for its own chunk alone, by an event.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


class HostChunks:
    """Chunks of `size` tokens along dim 2."""

    def __init__(self, size: int, on_host: bool, device: torch.device) -> None:
        self.size, self.device, self.on_host = size, device, on_host
        asynchronous = on_host and device.type == "cuda"
        self.stream: Any = torch.cuda.Stream(device) if asynchronous else None

    def places(self, x: Tensor) -> list[Tensor]:
        """The chunks of x [b, heads, s, d] where they are."""
        return list(x.split(self.size, 2))

    def put(self, chunk: Tensor) -> Tensor:
        """What waits: `chunk` [b, heads, size, d], or its copy, behind the work asked of it."""
        if self.stream is None:
            return self.waiting(chunk) if self.on_host else chunk
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            return self.waiting(chunk)

    def settle(self) -> None:
        """The memory of what was put may be another tensor's, whose work comes after this."""
        if self.stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self.stream)

    def waiting(self, chunk: Tensor) -> Tensor:
        """A copy of `chunk` in host memory, on its way over the current stream."""
        pinned = self.stream is not None
        host = torch.empty(chunk.shape, dtype=chunk.dtype, pin_memory=pinned)
        return host.copy_(chunk, non_blocking=True)

    def fetch(self, chunks: Sequence[Tensor]) -> Iterator[Tensor]:
        """Each chunk [b, heads, size, d] on the device; the next one is on its way meanwhile."""
        if not self.on_host:
            yield from chunks
            return
        places = _Places(self, chunks[0].shape, chunks[0].dtype)
        places.bring(0, chunks[0])
        for i in range(len(chunks)):
            if i + 1 < len(chunks):
                places.bring(i + 1, chunks[i + 1])
            yield places.arrived(i)
            places.used(i)
        places.leave()

    def sums(self, chunks: Sequence[Tensor]) -> HostSums:
        """Sums in fp32 of the shapes of `chunks`."""
        return HostSums(self, chunks)


class HostSums:
    """Sums [b, heads, size, d], zero at first, each waiting where the chunks wait."""

    def __init__(self, host: HostChunks, chunks: Sequence[Tensor]) -> None:
        self._host = host
        self._shapes = [chunk.shape for chunk in chunks]
        self._kept: list[Tensor | None] = [None] * len(chunks)

    def fetch(self, first: int) -> Iterator[Tensor]:
        """Each sum from `first` on, on the device, to be added to; it is kept when the next one is
        asked for. That of `first` is handed over: it comes no more.
        """
        if not self._host.on_host:
            yield from self._on_device(first)
            return
        places = _Places(self._host, self._shapes[first], torch.float32)
        self._bring(places, first)
        for i in range(first, len(self._kept)):
            self._bring(places, i + 1)
            if self._kept[i] is None:
                places.zero(i, self._shapes[i])
            yield places.arrived(i)
            self._kept[i] = places.send(i) if i > first else None
        places.leave()

    def _bring(self, places: _Places, i: int) -> None:
        if i < len(self._kept) and (kept := self._kept[i]) is not None:
            places.bring(i, kept)

    def _on_device(self, first: int) -> Iterator[Tensor]:
        for i in range(first, len(self._kept)):
            kept, self._kept[i] = self._kept[i], None
            if kept is None:
                kept = torch.zeros(self._shapes[i], device=self._host.device)
            yield kept
            self._kept[i] = kept if i > first else None


class _Places:
    """Two places on the device, taken in turn by chunks no larger than of shape `largest`.

    Three events order what the two streams do with a place: its chunk has arrived, its work is
    done, or it has been sent back.
    """

    def __init__(self, host: HostChunks, largest: torch.Size, dtype: torch.dtype) -> None:
        self._host, self._stream = host, host.stream
        self._memory = [
            torch.empty(largest.numel(), dtype=dtype, device=host.device) for _ in range(2)
        ]
        self._here = list(self._memory)
        self._filled: list[Any] = [None, None]
        self._free: list[Any] = [None, None]
        if self._stream:  # this memory was another tensor's
            self._stream.wait_stream(self._current())

    def _current(self) -> Any:
        return torch.cuda.current_stream(self._host.device)

    def _take(self, i: int, shape: torch.Size) -> Tensor:
        self._here[i % 2] = self._memory[i % 2][: shape.numel()].view(shape)
        return self._here[i % 2]

    def bring(self, i: int, chunk: Tensor) -> None:
        """Let `chunk` come from host memory as soon as its place is free."""
        here = self._take(i, chunk.shape)
        if not self._stream:
            here.copy_(chunk)
            return
        with torch.cuda.stream(self._stream):
            if self._free[i % 2]:
                self._stream.wait_event(self._free[i % 2])
            here.copy_(chunk, non_blocking=True)
            self._filled[i % 2] = self._stream.record_event()

    def zero(self, i: int, shape: torch.Size) -> None:
        """Zeros of `shape` in place of a chunk."""
        if self._free[i % 2]:
            self._current().wait_event(self._free[i % 2])
        self._filled[i % 2] = None
        self._take(i, shape).zero_()

    def arrived(self, i: int) -> Tensor:
        """Chunk i on the device; what is asked of it waits until it is there."""
        if self._filled[i % 2]:
            self._current().wait_event(self._filled[i % 2])
        return self._here[i % 2]

    def used(self, i: int) -> None:
        """All work on chunk i has been asked for."""
        if self._stream:
            self._free[i % 2] = self._current().record_event()

    def send(self, i: int) -> Tensor:
        """Chunk i on its way to host memory, behind the work asked of it."""
        self.used(i)
        if not self._stream:
            return self._host.waiting(self._here[i % 2])
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._free[i % 2])
            kept = self._host.waiting(self._here[i % 2])
            self._free[i % 2] = self._stream.record_event()
        return kept

    def leave(self) -> None:
        """The memory may be another tensor's, whose work is asked for from now on."""
        for event in self._free:
            if event:
                self._current().wait_event(event)
