"""What a split's own statistics make of it: marks that a network's loss can be held against.

    entropy(token_frequencies(stream, vocab_size))   # nats a token, without context
    orders, chosen = markov(train, judged)           # bits a token for each order; the one chosen

The order is chosen on the last tenth of the training part, never on what is judged.
"""

from collections.abc import Sequence

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
Frequencies = npt.NDArray[np.float64]


def token_frequencies(stream: Stream, vocab_size: int) -> Frequencies:
    """How frequent each token is in an epoch, [vocab_size], sum 1."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    stop = min(stream.epoch_tokens, ENOUGH)
    for start in range(0, stop, BLOCK):
        tokens = stream.read(start, min(start + BLOCK, stop))
        if int(tokens.max()) >= vocab_size:
            raise UserError(
                f"{stream.tokens.bin_path} holds a token outside its vocabulary of {vocab_size}"
            )
        counts += np.bincount(tokens, minlength=vocab_size)
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def entropy(frequencies: Frequencies) -> float:
    """Nats of a distribution."""
    filled = frequencies[frequencies > 0]
    return float(-(filled * np.log(filled)).sum())


class Markov:
    """p(token | the `order` before it) from counts; a document starts with symbols of its own."""

    def __init__(self, order: int, symbols: int) -> None:
        self.order, self.symbols = order, symbols
        self._counts = np.zeros(symbols ** (order + 1), np.int64)

    def _keys(self, symbols: Ints) -> Ints:
        """Each token with those before it, as one number, [n]."""
        padded = np.concatenate((np.zeros(self.order, np.int64), symbols))
        keys = np.zeros(len(symbols), np.int64)
        for back in range(self.order + 1):
            keys = keys * self.symbols + padded[back : back + len(symbols)]
        return keys

    def learn(self, symbols: Ints) -> None:
        """Count the tokens [n] of one document."""
        self._counts += np.bincount(self._keys(symbols), minlength=len(self._counts))

    def bits(self, symbols: Ints) -> float:
        """- Σ log₂ p over the tokens [n] of a document."""
        keys = self._keys(symbols)
        totals = self._counts.reshape(-1, self.symbols).sum(1)
        seen = self._counts[keys] + ALPHA
        of = totals[keys // self.symbols] + ALPHA * self.symbols
        return -float(np.log2(seen / of).sum())


def markov(
    train: Sequence[Tokens], records: Sequence[Tokens], cells: int = CELLS
) -> tuple[dict[int, float], int]:
    """Bits a token of `records` for each order that fits, and the order that was chosen.

    cells: counts of the largest table. Symbol 0 stands for a document's start and for tokens that
    were never seen.
    """
    known = np.unique(np.concatenate([np.unique(one) for one in train]))
    symbols = len(known) + 1

    def coded(tokens: Tokens) -> Ints:
        at = np.minimum(np.searchsorted(known, tokens), len(known) - 1)
        return np.where(known[at] == tokens, at + 1, 0).astype(np.int64)

    learned, judged = [coded(one) for one in train], [coded(one) for one in records]
    first, last = _cut(learned)
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
        found[order] = sum(map(model.bits, judged)) / sum(map(len, judged))
        order += 1
    return found, min(chosen_by, key=lambda order: chosen_by[order])


def _cut(documents: list[Ints]) -> tuple[list[Ints], list[Ints]]:
    """The first nine tenths of all tokens, and the rest."""
    left = sum(map(len, documents)) * 9 // 10
    first: list[Ints] = []
    last: list[Ints] = []
    for one in documents:
        first.append(one[:left])
        last.append(one[left:])
        left = max(0, left - len(one))
    return [one for one in first if len(one)], [one for one in last if len(one)]
