"""Chunks of a tensor that wait in host memory, and come back one ahead of their use.

    host = HostChunks(chunk, on_host=True, device=q.device)
    chunks = host.out(q)                 # along dim 2
    for here in host.fetch(chunks): …

Without `on_host` the chunks are views and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


class HostChunks:
    """Chunks of `size` tokens along dim 2."""

    def __init__(self, size: int, on_host: bool, device: torch.device) -> None:
        self.size, self.device = size, device
        self.on_host = on_host and device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(device) if self.on_host else None

    def out(self, x: Tensor) -> list[Tensor]:
        """The chunks of x [b, heads, s, d], in pinned memory where they wait on the host."""
        chunks = list(x.detach().split(self.size, 2))
        return [self._copy(chunk) for chunk in chunks] if self.on_host else chunks

    def _copy(self, chunk: Tensor) -> Tensor:
        """`chunk` in pinned memory of the host, in its shape."""
        host = torch.empty(chunk.shape, dtype=chunk.dtype, pin_memory=True)
        return host.copy_(chunk, non_blocking=True)

    def fetch(self, chunks: Sequence[Tensor]) -> Iterator[Tensor]:
        """Each chunk [b, heads, size, d] on the device; the next one is on its way meanwhile."""
        if not self.on_host:
            yield from chunks
            return
        coming = self._fetch(chunks[0]) if chunks else None
        for following in [*chunks[1:], None]:
            torch.cuda.current_stream(self.device).wait_stream(self._stream)
            here = coming
            coming = None if following is None else self._fetch(following)
            assert here is not None
            yield here

    def _fetch(self, chunk: Tensor) -> Tensor:
        """`chunk` on its way to the device, in its shape."""
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            here = chunk.to(self.device, non_blocking=True)
        here.record_stream(torch.cuda.current_stream(self.device))
        return here
