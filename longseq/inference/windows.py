"""A record → what the network sees of it at once.

    for window in windows(tokens, begin=end_of_document, size=512, stride=256):
        window.inputs, window.labels        # [n] each: a label follows its input
        window.labels[window.context :]     # those that no window before has counted

The token that ends a document stands before the first one of a record, as it does in training. In
every window but the first the first `size - stride` labels are context.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from longseq.config.arguments import Network
from longseq.data.indexed.format import Tokens
from longseq.errors import UserError

Losses = npt.NDArray[np.float32]  # of a window's labels, or of a record's tokens [n], nats


@dataclass(frozen=True)
class Window:
    """inputs and labels [n]; the first `context` labels were counted in a window before."""

    inputs: Tokens
    labels: Tokens
    context: int = 0


@dataclass(frozen=True)
class Cutting:
    """How records are cut: `length` tokens are seen at once; no windows where `size` is 0. most:
    what --seq-length may make of that.
    """

    length: int
    size: int = 0
    stride: int = 0
    most: float = 0

    def windows(self, name: str, tokens: Tokens, begin: int) -> Iterator[Window]:
        """The windows of a record; UserError where it is too long and there are none."""
        if len(tokens) > self.length and not self.size:
            longer = f", or --seq-length {len(tokens)}" if len(tokens) <= self.most else ""
            raise UserError(
                f"record {name} has {len(tokens):,} tokens and the network sees {self.length:,} at"
                f" once: give --window {self.length} --stride {max(1, self.length // 2)}{longer}"
            )
        return windows(tokens, begin, self.size or self.length, self.stride or self.length)


def cutting(net: Network, window: int | None, stride: int | None) -> Cutting:
    """Checked --window and --stride, where given, for a network that sees `net.seq_length`."""
    length = net.seq_length
    most = math.inf if net.use_rotary_position_embeddings else net.positions
    if not window:
        if stride:
            raise UserError(f"--stride {stride} needs --window, the tokens that are seen at once")
        return Cutting(length, most=most)
    if window > length:
        longer = f", or --seq-length {window} with it" if window <= most else ""
        raise UserError(
            f"--window {window}: the network sees {length} tokens at once: give {length} or less"
            f"{longer}"
        )
    stride = stride or max(1, window // 2)
    if stride > window:
        raise UserError(
            f"--stride {stride} is more than --window {window}: tokens between would be left out"
        )
    return Cutting(length, window, stride, most)


def windows(tokens: Tokens, begin: int, size: int, stride: int) -> Iterator[Window]:
    """Windows of tokens [n] of at most `size`, each `stride` behind the one before; the last one
    ends with the record and is as long as they are.
    """
    stream = np.concatenate((np.array([begin]), tokens)).astype(np.int64)
    count, seen, start = len(tokens), 0, 0
    while seen < count:
        start = min(start, max(0, count - size))
        stop = min(start + size, count)
        yield Window(stream[start:stop], stream[start + 1 : stop + 1], seen - start)
        seen, start = stop, start + stride
