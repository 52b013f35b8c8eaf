"""What a split's own statistics make of it: marks that a network's loss can be held against.

    entropy(token_counts(stream, vocab_size, weights))   # nats a label, without context
    orders, chosen = markov(train, judged)               # bits a label for each order; the chosen

Labels count as they do in the loss, by weights and masks, both where something is learnt and where
it is judged. The order is chosen on the last tenth of the training part, never on what is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from longseq.data.indexed.format import Tokens
from longseq.data.samples.stream import Stream
from longseq.errors import UserError

BLOCK = 1 << 22
ENOUGH = 1 << 28  # tokens; more do not move the estimate
CELLS = 1 << 24  # counts of the largest table: bounds the order by the vocabulary
ALPHA = 0.5  # added to each count (Krichevsky and Trofimov, IEEE Trans. Inf. Theory 27, 1981)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Frequencies = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Labels:
    """Tokens [n] in their order, and what each counts for as a label, [n]; None: 1."""

    tokens: Tokens
    weights: Floats | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def count(self) -> float:
        """How many labels they count for."""
        return len(self) if self.weights is None else float(self.weights.sum(dtype=np.float64))

    def part(self, start: int, stop: int | None) -> Labels:
        """Those from `start` to `stop`."""
        here = slice(start, stop)
        return Labels(self.tokens[here], None if self.weights is None else self.weights[here])

    def times(self, scale: float) -> Labels:
        """Each counts so much more."""
        weights = np.float32(1) if self.weights is None else self.weights
        return Labels(self.tokens, np.broadcast_to(weights * np.float32(scale), len(self)))


def token_counts(
    stream: Stream, vocab_size: int, weights: Callable[[int, int], Floats | None]
) -> Frequencies:
    """What each token of an epoch counts for as a label, [vocab_size], on average over all tokens.

    weights: of the labels between two places of the stream, or None where all count 1.
    """
    counts = np.zeros(vocab_size)
    stop = min(stream.epoch_tokens, ENOUGH)
    for start in range(0, stop, BLOCK):
        end = min(start + BLOCK, stop)
        tokens = stream.read(start, end)
        if int(tokens.max()) >= vocab_size:
            raise UserError(
                f"{stream.tokens.bin_path} holds a token outside its vocabulary of {vocab_size}"
            )
        counts += np.bincount(tokens, weights(start, end), minlength=vocab_size)
    return counts / stop


def entropy(counts: Frequencies) -> float:
    """Nats of the distribution that they make up; of none, 0."""
    filled = counts[counts > 0] / counts.sum()
    return float(-(filled * np.log(filled)).sum())


class Markov:
    """p(token | the `order` before it) from counts; a document starts with symbols of its own."""

    def __init__(self, order: int, symbols: int) -> None:
        self.order, self.symbols = order, symbols
        self._counts = np.zeros(symbols ** (order + 1))

    def _keys(self, symbols: Tokens) -> Ints:
        """Each token with those before it, as one number, [n]."""
        padded = np.concatenate((np.zeros(self.order, np.int64), symbols))
        keys = np.zeros(len(symbols), np.int64)
        for back in range(self.order + 1):
            keys = keys * self.symbols + padded[back : back + len(symbols)]
        return keys

    def learn(self, symbols: Labels) -> None:
        """Count the tokens of one document."""
        keys = self._keys(symbols.tokens)
        self._counts += np.bincount(keys, symbols.weights, minlength=len(self._counts))

    def bits(self, symbols: Labels) -> float:
        """- Σ w log₂ p over the tokens of a document."""
        keys = self._keys(symbols.tokens)
        totals = self._counts.reshape(-1, self.symbols).sum(1)
        seen = self._counts[keys] + ALPHA
        of = totals[keys // self.symbols] + ALPHA * self.symbols
        each = np.log2(seen / of)
        return -float((each if symbols.weights is None else each * symbols.weights).sum())


def markov(
    train: Sequence[Labels], records: Sequence[Labels], cells: int = CELLS
) -> tuple[dict[int, float], int]:
    """Bits a label of `records` for each order that fits, and the order that was chosen.

    cells: counts of the largest table. Symbol 0 stands for a document's start and for tokens that
    were never seen. Some of the records' labels must count.
    """
    known = np.unique(np.concatenate([np.unique(one.tokens) for one in train]))
    symbols = len(known) + 1

    def coded(labels: Labels) -> Labels:
        at = np.minimum(np.searchsorted(known, labels.tokens), len(known) - 1)
        found = np.where(known[at] == labels.tokens, at + 1, 0).astype(np.int64)
        return Labels(found, labels.weights)

    learned, judged = [coded(one) for one in train], [coded(one) for one in records]
    first, last = _cut(learned)
    count = sum(one.count for one in judged)
    chosen_by: dict[int, float] = {}
    found: dict[int, float] = {}
    order = 0
    while symbols ** (order + 1) <= cells:
        model = Markov(order, symbols)
        for one in first:
            model.learn(one)
        chosen_by[order] = sum(map(model.bits, last))
        model = Markov(order, symbols)
        for one in learned:
            model.learn(one)
        found[order] = sum(map(model.bits, judged)) / count
        order += 1
    return found, min(chosen_by, key=lambda order: chosen_by[order])


def _cut(documents: list[Labels]) -> tuple[list[Labels], list[Labels]]:
    """The first nine tenths of all tokens, and the rest."""
    left = sum(map(len, documents)) * 9 // 10
    first: list[Labels] = []
    last: list[Labels] = []
    for one in documents:
        first.append(one.part(0, left))
        last.append(one.part(left, None))
        left = max(0, left - len(one))
    return [one for one in first if len(one)], [one for one in last if len(one)]
