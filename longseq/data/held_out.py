"""What is kept from training: by name, on request, and the list of it that goes beside the run."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from longseq.config.arguments import Data
from longseq.config.split import parse_split
from longseq.data.datasets import Dataset, documents_of
from longseq.data.indexed.format import Flags
from longseq.data.indexed.record_table import ENDING, Record, read_records
from longseq.data.samples.cuts import PARTS
from longseq.data.samples.held_names import asked_names, refuse_unknown
from longseq.data.samples.split import Split, split_documents
from longseq.errors import UserError

HEADER = "part\tdata\tdocument\ttokens\trecord\tfile\n"
GUESSED_FROM = 10_000  # names; enough to guess what was meant


def split_datasets(datasets: list[Dataset], options: Data) -> list[Split]:
    """Each dataset cut as the flags say. UserError for a name that none of them knows."""
    shares = parse_split(options.split)
    asked = asked_names(options)
    found: set[str] = set()
    known: set[str] = set()
    splits = []
    for dataset in datasets:
        named = _named(dataset, asked, found, known) if asked else None
        splits.append(split_documents(documents_of(dataset), shares, options.split_seed, named))
    refuse_unknown(asked, found, known)
    return splits


def refuse_empty(cuts: Sequence[tuple[Dataset, Split]], options: Data, validates: bool) -> None:
    """Raise UserError where the cuts leave nothing to train on, or to validate with where the run
    does; of a blend in any of its sets, whose share the others would get, unless names hold it out.
    """
    flags = {"--valid-records": options.valid_records, "--test-records": options.test_records}
    by_name = " and ".join(name for name, given in flags.items() if given)
    for part in ("train", "valid") if validates else ("train",):
        empty = [dataset.prefix for dataset, split in cuts if not split.parts[part].num_tokens]
        remedy = ", or --eval-iters 0" if part == "valid" else ""
        if len(empty) == len(cuts):
            weight = parse_split(options.split)[PARTS.index(part)]
            if by_name and weight:
                raise UserError(
                    f"what is held out by {by_name} leaves nothing for {part}: name fewer"
                    f" records{remedy}"
                )
            raise UserError(
                f"--split {options.split} leaves nothing for {part}: give it a larger weight"
                + remedy
            )
        if empty and not by_name:
            raise UserError(
                f"--split {options.split} leaves nothing of {', '.join(empty)} for {part}: give"
                f" {part} a larger weight, or take what is so small out of the blend{remedy}"
            )


def _named(
    dataset: Dataset, asked: dict[str, list[str]], found: set[str], known: set[str]
) -> dict[str, Flags]:
    """For each part the documents its names stand for, bool [documents]; notes the names found."""
    chosen: dict[str, list[bool]] = {part: [] for part in asked}
    counts = []
    for record in read_records(dataset.prefix):
        counts.append(record.documents)
        if len(known) < GUESSED_FROM:
            known |= record.names
        for part, names in asked.items():
            matched = record.names.intersection(names)
            chosen[part].append(bool(matched))
            found |= matched
    return {part: np.repeat(np.array(flags, dtype=bool), counts) for part, flags in chosen.items()}


def in_no_part(dataset: Dataset, split: Split) -> tuple[int, int]:
    """Tokens that the cuts left out, and documents of which nothing is in a part."""
    tokens, offsets = dataset.tokens, dataset.tokens.document_offsets
    starts = np.concatenate([part.start for part in split.parts.values()])
    used = np.unique(np.searchsorted(offsets, starts, side="right"))
    inside = sum(part.num_tokens for part in split.parts.values())
    return tokens.num_tokens - inside, int((np.diff(offsets) > 0).sum()) - len(used)


def write_held_out(path: Path, cuts: list[tuple[Dataset, Split]]) -> None:
    """The list in force: every document of validation and test; all others are for training."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(HEADER)
        for dataset, split in cuts:
            file.writelines(_lines(dataset, split))


def _lines(dataset: Dataset, split: Split) -> Iterator[str]:
    offsets = dataset.tokens.document_offsets
    names = list(document_records(dataset))
    for part in ("valid", "test"):
        segments = split.parts[part]
        documents = np.searchsorted(offsets, segments.start, side="right") - 1
        first = segments.start - offsets[documents]
        for number, low, length in zip(documents, first, segments.length, strict=True):
            whole = length == offsets[number + 1] - offsets[number]
            tokens = "all" if whole else f"{low}-{low + length - 1}"
            record = names[number]
            yield f"{part}\t{dataset.prefix}\t{number}\t{tokens}\t{record.name}\t{record.file}\n"


def document_records(dataset: Dataset) -> Iterator[Record]:
    """The record of each document; nameless in data that were made without a table of records."""
    if dataset.manifest is None or ENDING not in dataset.manifest.files:
        yield from [Record(1, 0, "", "")] * dataset.tokens.num_documents
        return
    for record in read_records(dataset.prefix):
        yield from [record] * record.documents
