"""An endless stream of tokens: the documents of a split, in a new order each epoch.

Any stretch of it can be read by position, from its seed alone. Every document ends with the end
token: the stream adds it where the file has none (a genome cut between training and validation).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from longseq.data.indexed.format import Flags, IndexedTokens, Ints, TokenFile
from longseq.data.samples.cuts import Segments
from longseq.data.samples.shuffle import generator


@dataclass(frozen=True)
class OtherStrand:
    """A document is read from its other strand with a chance, drawn anew each epoch.

    table: for each value the one that the other strand has there, int64 [values].
    """

    chance: float
    table: Ints


class Stream:
    """Position p is token p % epoch_tokens of epoch p // epoch_tokens."""

    def __init__(
        self, tokens: IndexedTokens | TokenFile, segments: Segments, end: int, seed: int,
        other_strand: OtherStrand | None = None,
    ) -> None:  # fmt: skip
        self.tokens = tokens
        self.segments = segments
        self.end = end
        self.seed = seed
        self.lengths: Ints = segments.length + ~segments.closed
        self.epoch_tokens = int(self.lengths.sum())
        self.other_strand = other_strand
        self._epoch = lru_cache(maxsize=3)(self._order_of_epoch)
        self._backward = lru_cache(maxsize=3)(self._backward_in)

    def _order_of_epoch(self, epoch: int) -> tuple[Ints, Ints]:
        """Segments in this epoch's order [n], and where each starts in the epoch, with its end [n +
        1].
        """
        order = generator(self.seed, epoch).permutation(len(self.lengths))
        return order, np.concatenate(([0], np.cumsum(self.lengths[order])))

    def _backward_in(self, epoch: int) -> Flags:
        """Which segments are read from the other strand in an epoch, bool [n]."""
        chance = self.other_strand.chance if self.other_strand else 0.0
        return generator(self.seed, epoch, 3).random(len(self.lengths)) < chance

    def read(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Tokens start … stop of the stream, int64 [stop - start]; reads only those."""
        out = np.empty(stop - start, dtype=np.int64)
        at = start
        while at < stop:
            epoch, within = divmod(at, self.epoch_tokens)
            order, starts = self._epoch(epoch)
            first = int(np.searchsorted(starts, within, side="right")) - 1
            last = int(np.searchsorted(starts, within + stop - at))
            for place in range(first, min(last, len(order))):
                skip = within - int(starts[place])
                count = min(int(starts[place + 1]) - within, stop - at)
                here = out[at - start : at - start + count]
                self.read_segment(int(order[place]), skip, here, epoch)
                at += count
                within += count
        return out

    def read_segment(self, segment: int, skip: int, out: npt.NDArray[np.int64], epoch: int) -> None:
        """Fill `out` with the tokens of a segment from its token `skip` on, as read in an epoch."""
        start, length = int(self.segments.start[segment]), int(self.segments.length[segment])
        if self.other_strand is None or not self._backward(epoch)[segment]:
            stored = min(len(out), length - skip)
            out[:stored] = self.tokens.read(start + skip, stored)
        else:
            body = length - int(self.segments.closed[segment])  # without its end
            stored = min(len(out), body - skip)
            forward = self.tokens.read(start + body - skip - stored, stored)
            out[:stored] = self.other_strand.table[forward[::-1]]
        out[stored:] = self.end  # at most one token: the end

    def starts_between(self, start: int, stop: int) -> Ints:
        """Positions p with start < p < stop where a document starts; from the index, no token is
        read.
        """
        found: list[Ints] = []
        for epoch in range(start // self.epoch_tokens, (stop - 1) // self.epoch_tokens + 1):
            base = epoch * self.epoch_tokens
            starts = self._epoch(epoch)[1][:-1]  # of all documents: searched, never copied
            low, high = np.searchsorted(starts, [start + 1 - base, stop - base])
            found.append(starts[low:high] + base)
        return np.concatenate(found)
