"""Samples of a split: sample i is a pure function of (data, seed, i), so resuming needs a count
only.

An epoch's samples are visited in a random order, else a single long genome would be read from its
start to its end.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import torch

from longseq.config.arguments import Data
from longseq.data.indexed.format import Ints
from longseq.data.samples.batch import Batch
from longseq.data.samples.blend import place
from longseq.data.samples.entropy import Frequencies, Labels, entropy, token_counts
from longseq.data.samples.packing import Packed, Packing, Separate, Window
from longseq.data.samples.stream import Stream
from longseq.errors import UserError

Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Row:
    """One sample's pieces, arrays [s] as in Batch, and the ends of the whole sample's documents."""

    tokens: Ints
    labels: Ints
    mask: npt.NDArray[np.float32]
    positions: Ints
    documents: tuple[int, ...]


class Samples(ABC):
    """Endless samples of seq_length tokens."""

    seq_length: int
    vocab_size: int
    options: Data
    weighted: bool  # whether tokens count for more or less than 1 (longseq prepare's weights)

    @abstractmethod
    def row(self, index: int, pieces: Spans) -> Row:
        """Sample `index`, of which only the pieces are read."""

    @property
    @abstractmethod
    def num_tokens(self) -> int:
        """Tokens of one epoch."""

    @property
    @abstractmethod
    def fill(self) -> float:
        """The part of all label places that counts; the rest is padding and repeated context."""

    @abstractmethod
    def label_counts(self) -> Frequencies:
        """What each token counts for as a label, [vocab_size], on average over all places."""

    @abstractmethod
    def some_labels(self, most: int) -> list[Labels]:
        """About `most` tokens of an epoch at most as labels; no piece is of two datasets."""

    @property
    def all_labels_count(self) -> bool:
        """Whether loss_mask is all ones in every batch."""
        options = self.options
        masked = options.eod_mask_loss or options.no_cross_document or options.sample_overlap
        return not (masked or self.weighted)

    def batch(self, indices: Sequence[int], spans: Spans | None = None, length: int = 0) -> Batch:
        """Samples `indices` as rows of a batch; spans are this rank's pieces of [0, seq_length).

        Only the tokens of the spans (and one label more for each) are read. With `length`, a
        curriculum's, the samples are their first `length` tokens.
        """
        length = length or self.seq_length
        pieces = [(0, length)] if spans is None else list(spans)
        rows = [self.row(index, pieces) for index in indices]
        return Batch(
            tokens=torch.from_numpy(np.stack([row.tokens for row in rows])),
            labels=torch.from_numpy(np.stack([row.labels for row in rows])),
            loss_mask=torch.from_numpy(np.stack([row.mask for row in rows])),
            positions=torch.from_numpy(np.stack([row.positions for row in rows])),
            documents=tuple(_head(row.documents, length) for row in rows)
            if self.options.reset_attention_mask
            else None,
        )

    def unigram_loss(self) -> float:
        """Entropy in nats of this split's labels by what they count: the least loss of a model
        without context; 0 where none counts.
        """
        return entropy(self.label_counts())


@dataclass(frozen=True)
class Weights:
    """What each token counts for in the loss: its place in `levels`, from a stream like its own."""

    stream: Stream
    levels: npt.NDArray[np.float32]


class FileSamples(Samples):
    """Samples of one dataset's split."""

    def __init__(
        self, stream: Stream, seq_length: int, vocab_size: int, options: Data,
        weights: Weights | None = None,
    ) -> None:  # fmt: skip
        self.stream = stream
        self.seq_length = seq_length
        self.vocab_size = vocab_size
        self.options = options
        kind = Separate if options.no_cross_document else Packed
        self.layout: Packing = kind(stream, seq_length, options.sample_overlap)
        self.weighted = weights is not None
        if weights is not None:
            self._levels = weights.levels
            self._weights: Packing = kind(weights.stream, seq_length, options.sample_overlap)

    @property
    def num_tokens(self) -> int:
        return self.stream.epoch_tokens

    @property
    def fill(self) -> float:
        return self.layout.fill

    @property
    def repeats_within(self) -> float:
        """How often a sample holds the whole split; above 1 the split is shorter than a sample."""
        return 0.0 if self.options.no_cross_document else self.seq_length / self.num_tokens

    def label_counts(self) -> Frequencies:
        counts = token_counts(self.stream, self.vocab_size, self._label_weights)
        return counts * self.layout.tokens_a_place

    def some_labels(self, most: int) -> list[Labels]:
        stop = min(most, self.stream.epoch_tokens)
        return [Labels(self.stream.read(0, stop), self._label_weights(0, stop))]

    def _label_weights(self, start: int, stop: int) -> npt.NDArray[np.float32] | None:
        """What tokens start … stop of an epoch count for over its samples, each a label once (`row`
        gives the same of a sample); None where all count 1.
        """
        options = self.options
        if not (options.eod_mask_loss or options.no_cross_document or self.weighted):
            return None
        counted = self.layout.precedes(start, stop)
        if options.eod_mask_loss:
            before = self.stream.read(max(start - 1, 0), stop - 1)
            counted[stop - start - len(before) :] &= before != self.stream.end
            counted[0] &= start > 0  # behind the end of the epoch before
        weights = counted.astype(np.float32)
        if self.weighted:
            weights *= self._levels[self._weights.stream.read(start, stop)]
        return weights

    def row(self, index: int, pieces: Spans) -> Row:
        window = self.layout.window(index)
        read = [self._checked(window, low, high + 1) for low, high in pieces]
        tokens = np.concatenate([piece[:-1] for piece in read])
        places = np.concatenate([np.arange(low, high) for low, high in pieces])
        counted = (places >= window.first) & (places < window.last)
        if self.options.eod_mask_loss:
            counted &= tokens != self.stream.end
        needs_starts = self.options.reset_position_ids or self.options.reset_attention_mask
        starts = self.layout.starts(window) if needs_starts else places[:0]
        return Row(
            tokens=tokens,
            labels=np.concatenate([piece[1:] for piece in read]),
            mask=self._weigh(window, pieces, counted.astype(np.float32)),
            positions=_since(starts, places) if self.options.reset_position_ids else places,
            documents=(*starts.tolist(), self.seq_length),
        )

    def _weigh(
        self, window: Window, pieces: Spans, mask: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """The mask [s], times what each label counts for."""
        if not self.weighted:
            return mask
        places = [self._weights.read(window, low + 1, high + 1) for low, high in pieces]
        return mask * self._levels[np.concatenate(places)]

    def _checked(self, window: Window, low: int, high: int) -> Ints:
        tokens = self.layout.read(window, low, high)
        if tokens.size and (int(tokens.max()) >= self.vocab_size or int(tokens.min()) < 0):
            raise UserError(
                f"{self.stream.tokens.bin_path} holds token {int(tokens.max())} outside its"
                f" vocabulary of {self.vocab_size}: prepare the data again"
            )
        return tokens


def _head(ends: tuple[int, ...], length: int) -> tuple[int, ...]:
    """The ends of documents in the first `length` tokens, the last of them `length`."""
    return (*(end for end in ends if end < length), length)


def _since(starts: Ints, places: Ints) -> Ints:
    """Each place counted from the last start at or before it, or from 0."""
    edges = np.concatenate(([0], starts))
    return np.asarray(places - edges[np.searchsorted(edges, places, side="right") - 1])


class BlendedSamples(Samples):
    """Samples of several datasets, each as often as its weight says."""

    def __init__(self, parts: list[FileSamples], weights: list[Fraction]) -> None:
        self.parts = parts
        self.weights = weights
        self.seq_length = parts[0].seq_length
        self.vocab_size = parts[0].vocab_size
        self.options = parts[0].options
        self.weighted = any(part.weighted for part in parts)

    @property
    def num_tokens(self) -> int:
        return sum(part.num_tokens for part in self.parts)

    @property
    def fill(self) -> float:
        pairs = zip(self.parts, self.weights, strict=True)
        return sum(part.fill * float(weight) for part, weight in pairs)

    def row(self, index: int, pieces: Spans) -> Row:
        part, number = place(index, self.weights)
        return self.parts[part].row(number, pieces)

    def label_counts(self) -> Frequencies:
        total = np.zeros(self.vocab_size)
        for part, weight in zip(self.parts, self.weights, strict=True):
            total += part.label_counts() * float(weight)
        return total

    def some_labels(self, most: int) -> list[Labels]:
        """They count as much as the labels of each dataset do in its share of the samples, however
        few were there to take, or to a sample. All last tenths come last: for markov's choice.
        """
        pairs = list(zip(self.parts, self.weights, strict=True))
        shares = [part.layout.tokens_a_place * float(weight) for part, weight in pairs]
        found = [
            one for part, weight in pairs for one in part.some_labels(max(1, int(most * weight)))
        ]
        each = sum(map(len, found)) / sum(shares)
        scaled = [
            one.times(share * each / len(one)) for one, share in zip(found, shares, strict=True)
        ]
        first = [one.part(0, len(one) * 9 // 10) for one in scaled]
        return first + [one.part(len(one) * 9 // 10, None) for one in scaled]
