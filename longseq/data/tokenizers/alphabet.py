"""Nucleotide letters as small integers; every tokenizer of sequences starts from these codes.

A code is its letter's place in LETTERS: the four bases first, then N, then the ten other IUPAC
letters, each of which stands for two or three bases.
"""

import numpy as np
import numpy.typing as npt

LETTERS = "ACGTNRYSWKMBDHV"
COMPLEMENTS = "TGCANYRSWMKVHDB"
UNKNOWN = LETTERS.index("N")
INVALID = 255
LAYOUT = b"\n\r\t \v\f"  # between letters, carries no sequence
GAPS = b"-."  # alignment gaps: no base is there, so none is lost

Codes = npt.NDArray[np.uint8]


def code_table(mask_lower_case: bool = False) -> bytes:
    """The 256-byte table for `bytes.translate`: letter → code, anything else → INVALID.

    Lower case marks repeats in genome files; it is read as upper case, or as N with
    mask_lower_case.
    """
    table = bytearray([INVALID]) * 256
    for code, letter in enumerate(LETTERS):
        table[ord(letter)] = code
        table[ord(letter.lower())] = UNKNOWN if mask_lower_case else code
    table[ord("U")] = table[ord("T")]  # RNA
    table[ord("u")] = table[ord("t")]
    for letter in "Xx":  # an older way to write "any base"
        table[ord(letter)] = UNKNOWN
    return bytes(table)


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
