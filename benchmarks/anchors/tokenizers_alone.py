"""Tokens of a FASTA file by Biopython's quickest parser and the library `tokenizers`, in ten lines.

Writes the ids of each record by a tokenizer.json, with <eod> after it: what `longseq prepare
--tokenizer huggingface:…` is measured against.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from itertools import islice

import numpy as np


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", help="a FASTA file")
    parser.add_argument("target", help="the file of ids")
    parser.add_argument("tokenizer", help="a tokenizer.json of at most 65,536 tokens")


def main(options: Namespace) -> None:
    from Bio.SeqIO.FastaIO import SimpleFastaParser
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(options.tokenizer)
    end = tokenizer.token_to_id("<eod>")
    with open(options.source) as source, open(options.target, "wb") as file:
        sequences = (sequence.upper() for _, sequence in SimpleFastaParser(source))
        while batch := list(islice(sequences, 200)):
            for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                file.write(np.array([*encoding.ids, end], np.uint16).tobytes())
