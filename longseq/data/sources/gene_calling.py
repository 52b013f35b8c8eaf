"""Genes of a raw genome, by pyrodigal: the protein-coding stretches, each on its own strand."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from longseq.errors import UserError

BACTERIAL = 11
SINGLE_FROM = 100_000  # bases; below, pyrodigal advises its meta models over training


@dataclass(frozen=True)
class Genes:
    """spans: first base, one past the last, and whether it lies on the other strand; covered: bases
    that some gene holds.
    """

    spans: list[tuple[int, int, bool]]
    covered: int


def find_genes(sequence: bytes, table: int = 0) -> Genes:
    """Call genes in one record, given as letters A, C, G, T and N; table: its genetic code, or 0
    for what pyrodigal takes.
    """
    genes: Any = _finder(sequence, table).find_genes(sequence)
    inside = np.zeros(len(sequence), dtype=bool)
    found = []
    for gene in genes:
        inside[gene.begin - 1 : gene.end] = True
        found.append((gene.begin - 1, gene.end, gene.strand < 0))
    return Genes(found, int(inside.sum()))


def _finder(sequence: bytes, table: int) -> Any:
    from pyrodigal import METAGENOMIC_BINS, GeneFinder, MetagenomicBins

    if len(sequence) >= SINGLE_FROM:
        finder = GeneFinder()
        finder.train(sequence, translation_table=table or BACTERIAL)
        return finder
    if not table:
        return GeneFinder(meta=True)
    bins = [m for m in METAGENOMIC_BINS if m.training_info.translation_table == table]
    if not bins:
        known = sorted({m.training_info.translation_table for m in METAGENOMIC_BINS})
        raise UserError(
            f"--translation-table {table}: for records under {SINGLE_FROM:,} bases pyrodigal has"
            f" models of {' and '.join(map(str, known))} only: leave them out with --min-length"
        )
    return GeneFinder(meta=True, metagenomic_bins=MetagenomicBins(bins))
