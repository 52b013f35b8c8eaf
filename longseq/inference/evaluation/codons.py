"""Losses by codon position, and genes against themselves with synonymous codons shuffled.

by_codon(records, losses, genes)       # nats a letter, by strand and position
shuffled(letters, generator)           # the same protein, the same codons, another order
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from longseq.data.sources.gene_calling import find_genes
from longseq.inference.windows import Losses

TABLE = 11  # NCBI's genetic code of bacteria, archaea and plastids
COMPLEMENT = str.maketrans("ACGT", "TGCA")
Gene = tuple[int, int, bool]  # first letter, one past the last, whether on the other strand
BETWEEN, OTHER = "between genes", ", other strand"
UNSAID = 9  # the place of a letter of which nothing is known
PLACES = {0: BETWEEN, 1: "1", 2: "2", 3: "3"}
PLACES |= {-1: "1" + OTHER, -2: "2" + OTHER, -3: "3" + OTHER}


def genes_of(letters: str) -> list[Gene]:
    """Genes called in a record; letters other than ACGT count as N."""
    plain = "".join(letter if letter in "ACGT" else "N" for letter in letters)
    return find_genes(plain.encode()).spans


def places(count: int, genes: Iterable[Gene]) -> npt.NDArray[np.int64]:
    """For each letter its codon position 1 to 3, negative on the other strand, 0 between genes;
    where genes overlap, of the last one.
    """
    found = np.zeros(count, np.int64)
    for start, stop, backward in genes:
        steps = np.arange(stop - start) % 3 + 1
        found[start:stop] = -steps[::-1] if backward else steps
    return found


def in_frame(count: int, frame: int) -> npt.NDArray[np.int64]:
    """Codon positions of all letters of a gene whose first whole codon begins behind `frame`."""
    return (np.arange(count) - frame) % 3 + 1


def by_codon(losses: list[Losses], where: list[npt.NDArray[np.int64]]) -> dict[str, float]:
    """Mean loss of a letter by its place, in nats."""
    each, at = np.concatenate(losses).astype(np.float64), np.concatenate(where)
    return {
        name: float(each[at == key].mean()) for key, name in PLACES.items() if (at == key).any()
    }


def coding(letters: str, genes: Iterable[Gene]) -> list[str]:
    """Each gene in its own direction, whole codons of ACGT alone, one at least."""
    found = []
    for start, stop, backward in genes:
        text = letters[start:stop]
        text = text[::-1].translate(COMPLEMENT) if backward else text
        if text and len(text) % 3 == 0 and set(text) <= set("ACGT"):
            found.append(text)
    return found


@lru_cache(maxsize=1)
def amino_acids() -> dict[str, str]:
    """Codon → amino acid, * for stops, by Biopython's tables."""
    from Bio.Data.CodonTable import unambiguous_dna_by_id

    table = unambiguous_dna_by_id[TABLE]
    return {**table.forward_table, **dict.fromkeys(table.stop_codons, "*")}


def shuffled(gene: str, generator: np.random.Generator) -> str:
    """The gene with the codons of each amino acid in another order: the same protein and codon
    usage. The first codon, which starts it, and the last stay.
    """
    codons = np.array([gene[at : at + 3] for at in range(0, len(gene), 3)])
    letters = np.array([amino_acids()[codon] for codon in codons])
    inner = np.arange(1, len(codons) - 1)
    for letter in np.unique(letters[inner]):
        where = inner[letters[inner] == letter]
        codons[where] = generator.permutation(codons[where])
    return "".join(codons)
