"""Compressors, which know no network, on the same letters.

    compressed = compression(train, evaluated, letters)   # bits a letter for each library

Markov models, the other baseline, are in data/samples/entropy.py.
"""

from __future__ import annotations

import bz2
import lzma
import zlib

DICTIONARY = 1 << 26  # bytes that lzma looks back over


def compression(train: bytes, evaluated: bytes, letters: int) -> dict[str, float]:
    """Bits a letter that compressors need for `evaluated`, which has so many: alone, and lzma
    behind `train`.
    """
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": DICTIONARY}]

    def size(text: bytes) -> int:
        return len(lzma.compress(text, lzma.FORMAT_RAW, filters=filters))

    bits = 8 / letters
    found = {
        "zlib": bits * len(zlib.compress(evaluated, 9)),
        "bzip2": bits * len(bz2.compress(evaluated, 9)),
        "lzma": bits * size(evaluated),
    }
    if train:
        found["lzma, primed with the training part"] = bits * (
            size(train + evaluated) - size(train)
        )
    return found
