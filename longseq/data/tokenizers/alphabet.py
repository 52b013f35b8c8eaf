"""Codes of nucleotide letters (letters.py) as arrays, which tokenizers of sequences start from."""

import numpy as np
import numpy.typing as npt

from longseq.data.tokenizers.letters import LETTERS

COMPLEMENTS = "TGCANYRSWMKVHDB"

Codes = npt.NDArray[np.uint8]

COMPLEMENT = np.array([LETTERS.index(c) for c in COMPLEMENTS], dtype=np.uint8)
LETTER_BYTES = np.frombuffer(LETTERS.encode(), dtype=np.uint8)
UPPER = bytes(range(256)).upper()  # letter → upper case, for bytes.translate
LETTER_TABLE = LETTERS.encode().ljust(256, b"?")  # code → letter, for bytes.translate


def reverse_complement(codes: Codes) -> Codes:
    """Codes of the other strand, read in its own direction."""
    return COMPLEMENT[codes[::-1]]


def letters(codes: Codes) -> str:
    """The sequence in upper-case letters."""
    return LETTER_BYTES[codes].tobytes().decode("ascii")
