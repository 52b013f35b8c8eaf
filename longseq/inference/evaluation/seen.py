"""How much of what is evaluated was learned from: words of 31 letters that stand in both.

    share = seen(train, judged)       # of the words of `judged`; None where it has none

A word is the same on either strand. Of long texts only words with a small hash are held, so that
memory is bounded by HELD of them, and by a block of the training part at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

K = 31  # letters, which nothing shares by chance; odd, so that no word is its own other strand
HELD = 1 << 20  # words of what is evaluated
BLOCK = 1 << 20  # letters that are looked at together
OTHER = 4  # code of a letter that is none of ACGT, of which no word is made
CODES = np.full(256, OTHER, np.uint8)
for code, letters in enumerate((b"Aa", b"Cc", b"Gg", b"TtUu")):
    CODES[list(letters)] = code

Words = npt.NDArray[np.uint64]


def seen(train: Iterable[bytes], judged: list[bytes]) -> float | None:
    """Which part of the words of some texts, as often as they stand there, the others have too."""
    most = min(2**64 - 1, 2**64 * HELD // max(1, sum(map(len, judged))))
    words = np.concatenate([np.zeros(0, np.uint64), *_words(judged, most)])
    held, counts = np.unique(words, return_counts=True)
    if not len(held):
        return None
    found = np.zeros(len(held), bool)
    for some in _words(train, most):
        if found.all():
            break
        at = np.minimum(np.searchsorted(held, some), len(held) - 1)
        found[at[held[at] == some]] = True
    return float(counts[found].sum() / counts.sum())


def _words(texts: Iterable[bytes], most: int) -> Iterator[Words]:
    """The hashes up to `most` of all words, block by block."""
    for text in texts:
        for start in range(0, len(text) - K + 1, BLOCK):
            hashes = _hashes(CODES[np.frombuffer(text[start : start + BLOCK + K - 1], np.uint8)])
            yield hashes[hashes <= np.uint64(most)]


def _hashes(codes: npt.NDArray[np.uint8]) -> Words:
    """Of the words of ACGT in K or more letters; two words never have the same one."""
    others = np.cumsum(np.append(0, codes == OTHER))
    letters = codes.astype(np.uint64) & np.uint64(3)
    back = _packed((np.uint64(3) - letters)[::-1], K)[::-1]
    words = np.minimum(_packed(letters, K), back)[others[K:] == others[:-K]]
    for factor in (
        0xBF58476D1CE4E5B9,
        0x94D049BB133111EB,
    ):  # splitmix64, each step of which goes back
        words = (words ^ (words >> np.uint64(30))) * np.uint64(factor)
    return words ^ (words >> np.uint64(31))


def _packed(letters: Words, length: int) -> Words:
    """Each `length` letters that follow each other as one number, two bits a letter."""
    if length == 1:
        return letters
    half = length // 2
    parts = _packed(letters, half)
    both = parts[:-half] << np.uint64(2 * half) | parts[half:]
    return both if length == 2 * half else both[:-1] << np.uint64(2) | letters[length - 1 :]
