"""How documents become samples: one endless stream cut into pieces, or each document by itself.

A sample is seq_length tokens and one more, the last label. Over an epoch every token is a label
exactly once, the first of a document (which nothing precedes) excepted where documents are kept
apart.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from longseq.data.indexed.format import Flags, Ints
from longseq.data.samples.shuffle import shuffled
from longseq.data.samples.stream import Stream
from longseq.errors import UserError


@dataclass(frozen=True)
class Window:
    """Where one sample lies. Its labels count in [first, last) of the sample; beyond `last` is
    padding.

    segment: of the split, or None for the whole stream; start: its first token there.
    """

    segment: int | None
    start: int
    first: int
    last: int
    epoch: int = 0


class Packing(ABC):
    """Samples by place in an epoch; overlap: tokens a sample shares with the one before, as
    context.
    """

    def __init__(self, stream: Stream, seq_length: int, overlap: int) -> None:
        self.stream = stream
        self.seq_length = seq_length
        self.overlap = overlap
        self.stride = seq_length - overlap

    epoch_samples: int

    def window(self, index: int) -> Window:
        """The sample of any index: epochs follow each other, each in its own order."""
        epoch, place = divmod(index, self.epoch_samples)
        return self._window(epoch, shuffled(place, self.epoch_samples, self.stream.seed, epoch, 1))

    @abstractmethod
    def _window(self, epoch: int, place: int) -> Window: ...

    @abstractmethod
    def read(self, window: Window, low: int, high: int) -> npt.NDArray[np.int64]:
        """Tokens low … high of the sample's seq_length + 1, [high - low]."""

    @abstractmethod
    def starts(self, window: Window) -> Ints:
        """Places above 0 in the sample where a document (or padding) starts."""

    @property
    @abstractmethod
    def fill(self) -> float:
        """The part of all label places that holds a label that counts."""

    @property
    @abstractmethod
    def tokens_a_place(self) -> float:
        """Tokens of an epoch over the label places of its samples."""

    def precedes(self, start: int, stop: int) -> Flags:
        """Whether tokens start … stop of an epoch have one before them, so that they are labels."""
        return np.ones(stop - start, np.bool_)


class Packed(Packing):
    """The stream of documents, cut wherever a sample is full: no place is wasted."""

    def __init__(self, stream: Stream, seq_length: int, overlap: int) -> None:
        super().__init__(stream, seq_length, overlap)
        self.epoch_samples = -(-stream.epoch_tokens // self.stride)

    def _window(self, epoch: int, place: int) -> Window:
        number = epoch * self.epoch_samples + place
        first = self.overlap if number else 0
        return Window(None, number * self.stride, first, self.seq_length)

    def read(self, window: Window, low: int, high: int) -> npt.NDArray[np.int64]:
        return self.stream.read(window.start + low, window.start + high)

    def starts(self, window: Window) -> Ints:
        start = window.start
        return self.stream.starts_between(start, start + self.seq_length) - start

    @property
    def fill(self) -> float:
        return self.tokens_a_place

    @property
    def tokens_a_place(self) -> float:
        return self.stride / self.seq_length


class Separate(Packing):
    """Samples of one document each, padded with end tokens where it is too short."""

    def __init__(self, stream: Stream, seq_length: int, overlap: int) -> None:
        super().__init__(stream, seq_length, overlap)
        labels = stream.lengths - 1
        extra = np.maximum(labels - seq_length, 0)
        self._samples = np.where(labels > 0, 1 + -(-extra // self.stride), 0)
        self._ends = np.cumsum(self._samples)
        self._labels = int(labels.sum())
        self.epoch_samples = int(self._ends[-1])
        if not self.epoch_samples:
            raise UserError(f"{stream.tokens.bin_path}: no document in it has two tokens")

    def _window(self, epoch: int, place: int) -> Window:
        segment = int(np.searchsorted(self._ends, place, side="right"))
        number = place - int(self._ends[segment] - self._samples[segment])
        start = number * self.stride
        last = min(self.seq_length, int(self.stream.lengths[segment]) - 1 - start)
        return Window(segment, start, self.overlap if number else 0, last, epoch)

    def read(self, window: Window, low: int, high: int) -> npt.NDArray[np.int64]:
        out = np.full(high - low, self.stream.end, dtype=np.int64)
        there = min(high, window.last + 1) - low
        if there > 0 and window.segment is not None:
            first = window.start + low
            self.stream.read_segment(window.segment, first, out[:there], window.epoch)
        return out

    def starts(self, window: Window) -> Ints:
        inside = window.last < self.seq_length
        return np.array([window.last] if inside else [], dtype=np.int64)

    @property
    def fill(self) -> float:
        return self._labels / (self.epoch_samples * self.seq_length)

    @property
    def tokens_a_place(self) -> float:
        return self.stream.epoch_tokens / (self.epoch_samples * self.seq_length)

    def precedes(self, start: int, stop: int) -> Flags:
        found = np.ones(stop - start, np.bool_)
        found[self.stream.starts_between(max(start - 1, 0), stop) - start] = False
        found[0] &= start > 0
        return found
