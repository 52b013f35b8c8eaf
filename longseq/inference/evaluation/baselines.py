"""Compressors, which know no network, on the same letters.

    compressed = compression(train, evaluated, letters)   # bits a letter for each library

Markov models, the other baseline, are in data/samples/entropy.py.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from concurrent.futures import ThreadPoolExecutor

DICTIONARY = 1 << 26  # bytes that lzma looks back over


def compression(train: bytes, evaluated: bytes, letters: int) -> dict[str, float]:
    """Bits a letter that compressors need for `evaluated`, which has so many: alone, and lzma
    behind `train`. Two texts at a time: lzma takes a core a second or more for a million letters.
    """
    with ThreadPoolExecutor(1) as beside:  # lzma computes without Python's lock
        behind = beside.submit(_lzma, train + evaluated) if train else None
        learned = _lzma(train) if train else 0
        sizes = {
            "zlib": len(zlib.compress(evaluated, 9)),
            "bzip2": len(bz2.compress(evaluated, 9)),
            "lzma": _lzma(evaluated),
        }
        if behind:
            sizes["lzma, primed with the training part"] = behind.result() - learned
    return {name: 8 * size / letters for name, size in sizes.items()}


def _lzma(text: bytes) -> int:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": DICTIONARY}]
    return len(lzma.compress(text, lzma.FORMAT_RAW, filters=filters))
