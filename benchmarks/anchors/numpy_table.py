"""Tokens of a FASTA file by Biopython's quickest parser and numpy's tables, in ten lines.

Writes ids of nucleotides, codons or k-mers with an end at each record: what `longseq prepare` is
measured against.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import numpy as np

UNKNOWN = 4


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", help="a FASTA file")
    parser.add_argument("target", help="the file of ids")
    parser.add_argument("tokenizer", help="nucleotide, codon or kmer:K")


def main(options: Namespace) -> None:
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    letters = np.full(256, UNKNOWN, np.uint8)
    for number, letter in enumerate("ACGT"):
        letters[ord(letter)] = letters[ord(letter.lower())] = number
    size = {"nucleotide": 1, "codon": 3}.get(options.tokenizer) or int(options.tokenizer[5:])
    words = np.full((8,) * size, 0, np.uint8 if size < 4 else np.uint16)
    words[(slice(4),) * size] = 2 + np.arange(4**size).reshape((4,) * size)
    end = np.ones(1, words.dtype).tobytes()
    with open(options.source) as source, open(options.target, "wb") as file:
        for _, sequence in SimpleFastaParser(source):
            ids = letters[np.frombuffer(sequence.encode(), np.uint8)]
            if size > 1:
                whole = ids[: len(ids) // size * size]
                ids = words[tuple(whole[place::size] for place in range(size))]
            file.write(ids.tobytes() + end)
