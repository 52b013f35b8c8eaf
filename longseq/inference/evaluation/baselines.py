"""What knows no network, on the same letters: Markov models of tokens, and compressors.

    orders, chosen = markov(train, records)      # bits a token for each order; the one chosen
    compressed = compression(train, evaluated)   # bits a letter for each library

The order is chosen on the last tenth of the training part, never on what is evaluated.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from longseq.data.indexed.format import Tokens

CELLS = 1 << 24  # counts of the largest table: bounds the order by the vocabulary
ALPHA = 0.5  # added to each count (Krichevsky and Trofimov, IEEE Trans. Inf. Theory 27, 1981)
DICTIONARY = 1 << 26  # bytes that lzma looks back over
Ints = npt.NDArray[np.int64]


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


def markov(train: Sequence[Tokens], records: Sequence[Tokens]) -> tuple[dict[int, float], int]:
    """Bits a token of `records` for each order that fits, and the order that was chosen.

    Symbol 0 stands for a document's start and for tokens that were never seen.
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
    while symbols ** (order + 1) <= CELLS:
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


def compression(train: bytes, evaluated: bytes) -> dict[str, float]:
    """Bits a letter that compressors need for `evaluated`: alone, and lzma behind `train`."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": DICTIONARY}]

    def size(text: bytes) -> int:
        return len(lzma.compress(text, lzma.FORMAT_RAW, filters=filters))

    bits = 8 / len(evaluated)
    found = {
        "zlib": bits * len(zlib.compress(evaluated, 9)),
        "bzip2": bits * len(bz2.compress(evaluated, 9)),
        "lzma": bits * size(evaluated),
    }
    if train:
        found["lzma after the training part"] = bits * (size(train + evaluated) - size(train))
    return found
