"""`longseq data`: look at prepared data, verify it, turn it back into sequences."""

import sys
from dataclasses import dataclass

import numpy as np

from longseq.config.arguments import Data
from longseq.data.datasets import Dataset, open_datasets
from longseq.data.held_out import document_records, in_no_part, split_datasets
from longseq.data.indexed.document_table import ENDING, read_documents
from longseq.data.indexed.ends import Ends, blocks
from longseq.data.indexed.format import Ints, Tokens
from longseq.data.indexed.manifest import check_digests
from longseq.data.samples.split import Split
from longseq.errors import UserError
from longseq.reports.format import counted

LINE = 70
SHOWN = 12  # most frequent tokens


def inspect(options: Data, seq_length: int) -> None:
    """Print documents, lengths, tokens, a decoded sample, how a run would cut it, and problems."""
    if seq_length < 1:
        raise UserError(f"--seq-length {seq_length}: give a number of tokens above 0")
    datasets = open_datasets(options.data_path, options.tokenizer_type)
    for dataset, split in zip(datasets, split_datasets(datasets, options), strict=True):
        tokens, tokenizer = dataset.tokens, dataset.tokenizer
        contents = read_all(dataset)
        lengths = np.diff(tokens.document_offsets)
        print(
            f"{dataset.prefix}: {tokens.num_tokens:,} tokens in"
            f" {counted(tokens.num_documents, 'document')}"
        )
        print(f"  tokenizer {tokenizer.specification}, vocabulary {tokenizer.vocab_size}")
        print(f"  stored as {tokens.dtype}, {tokens.num_tokens * tokens.dtype.itemsize:,} bytes")
        _print_lengths(lengths, seq_length)
        _print_histogram(contents.counts, tokenizer.names())
        _print_split(dataset, split, options.split)
        print(f"  document 0 starts {tokenizer.decode(tokens.read(0, min(60, int(lengths[0]))))}")
        for problem in problems(dataset, lengths, contents):
            print(f"  problem: {problem}")


@dataclass(frozen=True)
class Contents:
    """What every token was looked at for: how often each of the vocabulary occurs, [vocab_size],
    and how documents end.
    """

    counts: Ints
    ends: Ends

    @property
    def inner_ends(self) -> int:
        """End tokens that end no document of the index."""
        return int(self.counts[self.ends.end]) - self.ends.closed


def read_all(dataset: Dataset) -> Contents:
    """Look at every token; UserError for one outside the vocabulary."""
    tokens, size = dataset.tokens, dataset.tokenizer.vocab_size
    counts = np.zeros(size, dtype=np.int64)
    ends = Ends(tokens, dataset.tokenizer.end_of_document)
    for start, piece in blocks(tokens):
        check_inside(dataset, start, piece)
        counts += np.bincount(piece, minlength=size)
        ends.look(start, piece)
    return Contents(counts, ends)


def check_inside(dataset: Dataset, start: int, piece: Tokens) -> None:
    """UserError where one of these tokens, the first of which is number `start`, is outside the
    vocabulary, as another program's may be.
    """
    size = dataset.tokenizer.vocab_size
    if int(piece.min()) < 0 or int(piece.max()) >= size:
        place = start + int(np.argmax((piece < 0) | (piece >= size)))
        raise UserError(
            f"{dataset.tokens.bin_path}: token number {place} is outside the vocabulary of {size}"
        )


def problems(dataset: Dataset, lengths: Ints, contents: Contents) -> list[str]:
    """What a user should know before a run."""
    counts, found = contents.counts, _of_ends(contents)
    if dataset.tokens.unindexed_ends:
        found.append("the index leaves out the end tokens; they are counted in (docs/data.md)")
    if empty := int((lengths == 0).sum()):
        found.append(f"{counted(empty, 'document')} without any token: no sample has them")
    if dataset.closed and (alone := int((lengths == 1).sum())):
        found.append(f"{counted(alone, 'document')} of an end alone")
    if dataset.manifest is None:
        found.append("no manifest: sizes and digests cannot be checked")
    names = dataset.tokenizer.names()
    unknown = sum(int(counts[names.index(name)]) for name in ("[UNK]", "N") if name in names)
    if unknown > counts.sum() / 10:
        found.append(f"{unknown / counts.sum():.0%} of the tokens stand for unknown letters")
    return found


def _of_ends(contents: Contents) -> list[str]:
    """What is unusual about end tokens."""
    found = []
    if differ := contents.ends.differ():
        found.append(differ)
    elif not contents.ends.closed:
        found.append("documents do not end with the end token: samples add it")
    if inner := contents.inner_ends:
        found.append(
            f"{counted(inner, 'end token')} inside documents: --reset-position-ids and"
            " --reset-attention-mask go by documents, Megatron's by these tokens"
        )
    return found


def _print_lengths(lengths: Ints, seq_length: int) -> None:
    low, middle, high = np.quantile(lengths, (0.05, 0.5, 0.95))
    print(
        f"  lengths: {lengths.min():,} to {lengths.max():,}, 5% below {low:,.0f}, half below"
        f" {middle:,.0f}, 95% below {high:,.0f}"
    )
    labels = np.maximum(lengths - 1, 0)  # a document of no tokens has none
    samples = int((-(-labels // seq_length)).sum())
    fill = labels.sum() / max(1, samples * seq_length)
    print(
        f"  at {seq_length:,} tokens a sample: packed, {lengths.sum() / seq_length:,.1f} samples,"
        f" 100% full; one document each, {counted(samples, 'sample')}, {fill:.1%} full"
    )


def _print_histogram(counts: Ints, names: list[str]) -> None:
    shown = np.argsort(-counts, kind="stable")[:SHOWN]
    parts = [f"{names[i]} {counts[i] / counts.sum():.2%}" for i in shown.tolist() if counts[i]]
    rest = int((counts > 0).sum()) - len(parts)
    print(f"  tokens: {', '.join(parts)}" + (f" and {rest:,} others" if rest > 0 else ""))


def _print_split(dataset: Dataset, split: Split, weights: str) -> None:
    parts = [f"{name} {segments.num_tokens:,} tokens" for name, segments in split.parts.items()]
    tokens, documents = in_no_part(dataset, split)
    if tokens:
        whole = f" ({counted(documents, 'whole document')})" if documents else ""
        parts.append(f"in no part {counted(tokens, 'token')}{whole}")
    print(f"  --split {weights}: by {split.by}, {', '.join(parts)}")
    for note in split.notes:
        print(f"    {note}")


def verify(prefix: str, tokenizer_type: str) -> None:
    """Digests, sizes and offsets, the range of every token and the end of every document."""
    for dataset in open_datasets(prefix, tokenizer_type):
        if dataset.manifest is not None:
            check_digests(dataset.prefix, dataset.manifest)
        contents = read_all(dataset)
        contents.ends.check(ours=dataset.manifest is not None)
        checked = "digests, " if dataset.manifest is not None else "no manifest; "
        print(
            f"{dataset.prefix}: good ({checked}offsets, the ends of"
            f" {counted(contents.ends.seen, 'document')}, {int(contents.counts.sum()):,} tokens"
            f" within the vocabulary of {dataset.tokenizer.vocab_size})"
        )
        for problem in _of_ends(contents):
            print(f"  problem: {problem}")


def decode(prefix: str, tokenizer_type: str, numbers: list[int] | None) -> None:
    """Print documents as FASTA; their names are their numbers, and those of their records."""
    for dataset in open_datasets(prefix, tokenizer_type):
        total = dataset.tokens.num_documents
        names = _names(dataset)
        for number in range(total) if numbers is None else numbers:
            if not 0 <= number < total:
                raise UserError(
                    f"--document {number}: {dataset.prefix} has documents 0 to {total - 1}"
                )
            _print_document(dataset, number, names[number])


def _names(dataset: Dataset) -> list[str]:
    """What each document is called: its record, and its feature where it is one."""
    names = [record.name for record in document_records(dataset)]
    if dataset.manifest is None or ENDING not in dataset.manifest.files:
        return names
    titles = [document.title for document in read_documents(dataset.prefix)]
    return [f"{name} {title}" for name, title in zip(names, titles, strict=True)]


def _print_document(dataset: Dataset, number: int, name: str) -> None:
    tokens: Tokens = dataset.tokens.document(number)
    if len(tokens) and int(tokens[-1]) == dataset.tokenizer.end_of_document:
        tokens = tokens[:-1]
    text = dataset.tokenizer.decode(tokens)
    lines = [text[start : start + LINE] for start in range(0, len(text), LINE)]
    sys.stdout.write("\n".join([f">{number} {name}".rstrip(), *lines]) + "\n")
