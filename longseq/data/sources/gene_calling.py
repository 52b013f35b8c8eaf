"""Genes of a raw genome, by pyrodigal: the protein-coding stretches, each on its own strand."""

from dataclasses import dataclass
from typing import Any

import numpy as np

SINGLE_FROM = 100_000  # bases; below, pyrodigal advises its meta models over training


@dataclass(frozen=True)
class Genes:
    """spans: first base, one past the last, and whether it lies on the other strand; covered: bases
    that some gene holds.
    """

    spans: list[tuple[int, int, bool]]
    covered: int


def find_genes(sequence: bytes) -> Genes:
    """Call genes in one record, given as letters A, C, G, T and N."""
    genes: Any = _finder(sequence).find_genes(sequence)
    inside = np.zeros(len(sequence), dtype=bool)
    found = []
    for gene in genes:
        inside[gene.begin - 1 : gene.end] = True
        found.append((gene.begin - 1, gene.end, gene.strand < 0))
    return Genes(found, int(inside.sum()))


def _finder(sequence: bytes) -> Any:
    from pyrodigal import GeneFinder

    if len(sequence) < SINGLE_FROM:
        return GeneFinder(meta=True)
    finder = GeneFinder()
    finder.train(sequence)
    return finder
