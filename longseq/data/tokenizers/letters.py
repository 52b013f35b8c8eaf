"""Which letters are nucleotides, and their codes. Standard library only: a login node looks at a
file's first letters.

A code is its letter's place in LETTERS: the four bases first, then N, then the ten other IUPAC
letters, each of which stands for two or three bases.
"""

LETTERS = "ACGTNRYSWKMBDHV"
UNKNOWN = LETTERS.index("N")
INVALID = 255
LAYOUT = b"\n\r\t \v\f"  # between letters, carries no sequence
GAPS = b"-."  # alignment gaps: no base is there, so none is lost


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


def count_gaps(raw: bytes) -> int:
    """Alignment gaps among letters; they stand for no base."""
    if b"-" not in raw and b"." not in raw:  # most have none, and counting takes much longer
        return 0
    return raw.count(b"-") + raw.count(b".")
