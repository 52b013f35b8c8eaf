"""Tokens of a FASTA file by a loop over Biopython's records, as a biologist would write it.

Writes ids of nucleotides or codons, one byte each, with 15 at the end of each record: what `longseq
prepare` is measured against.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from itertools import product

import numpy as np


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", help="a FASTA file")
    parser.add_argument("target", help="the file of ids")
    parser.add_argument("tokenizer", choices=("nucleotide", "codon"))


def main(options: Namespace) -> None:
    from Bio import SeqIO

    size, first = (3, 7) if options.tokenizer == "codon" else (1, 0)
    words = {"".join(letters): first + n for n, letters in enumerate(product("ACGT", repeat=size))}
    with open(options.target, "wb") as file:
        for record in SeqIO.parse(options.source, "fasta"):
            text = str(record.seq).upper()
            ids = [words.get(text[i : i + size], 4) for i in range(0, len(text) - size + 1, size)]
            np.array([*ids, 15], dtype=np.uint8).tofile(file)
