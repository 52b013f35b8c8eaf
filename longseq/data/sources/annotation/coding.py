"""Whether coding sequences start and stop as their genetic code says: counted, not mended.

Real annotation has partial genes, programmed frameshifts and selenocysteine; thousands of broken
ones mean that annotation and sequence, or the table, do not belong together.
"""

from collections import Counter
from functools import cache

import numpy as np
import numpy.typing as npt

from longseq.data.tokenizers.letters import LETTERS

BASES = 4  # codes below are those of A, C, G, T
CODON = 3
UNKNOWN_CODON = 64
Classes = npt.NDArray[np.bool_]


def check_coding(codes: bytes, table: int, counts: Counter[str]) -> None:
    """Count what is not as in a whole coding sequence, given as codes in reading order."""
    starts, stops = codon_classes(table)
    whole = np.frombuffer(codes, np.uint8, len(codes) - len(codes) % CODON).reshape(-1, CODON)
    known = (whole < BASES).all(axis=1)
    numbers = np.where(known, whole.astype(np.int64) @ np.array([16, 4, 1]), UNKNOWN_CODON)
    counts["cds_not_in_threes"] += len(codes) % CODON > 0
    counts["cds_without_start"] += not len(numbers) or not starts[numbers[0]]
    counts["cds_without_stop"] += not len(numbers) or not stops[numbers[-1]]
    counts["cds_with_inner_stop"] += bool(stops[numbers[:-1]].any())


def unknown_code(table: int) -> str:
    """What is wrong with the number of a genetic code, "" if NCBI has it."""
    from Bio.Data.CodonTable import unambiguous_dna_by_id

    if table in unambiguous_dna_by_id:
        return ""
    known = ", ".join(map(str, sorted(unambiguous_dna_by_id)))
    return f"{table}: NCBI's genetic codes are {known}"


@cache
def codon_classes(table: int) -> tuple[Classes, Classes]:
    """Which codons start and which stop in one of NCBI's genetic codes, bool [65]."""
    from Bio.Data.CodonTable import unambiguous_dna_by_id

    code = unambiguous_dna_by_id[table]
    classes = np.zeros((2, UNKNOWN_CODON + 1), dtype=bool)
    for row, codons in enumerate((code.start_codons, code.stop_codons)):
        for codon in codons:
            a, b, c = (LETTERS.index(letter) for letter in codon)
            classes[row, 16 * a + 4 * b + c] = True
    return classes[0], classes[1]
