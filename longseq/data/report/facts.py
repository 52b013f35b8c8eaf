"""The figures of a prepared data set, in one pass over its tokens."""

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from longseq.config.arguments import Data
from longseq.config.split import parse_split
from longseq.data.datasets import Dataset, documents_of
from longseq.data.held_out import document_records, in_no_part, split_datasets
from longseq.data.indexed.format import Ints
from longseq.data.indexed.record_table import ENDING, read_records
from longseq.data.inspection import check_inside
from longseq.data.samples.cuts import PARTS
from longseq.data.samples.held_names import asked_names
from longseq.data.samples.split import Split
from longseq.data.tokenizers.letters import LETTERS

BLOCK = 1 << 22  # tokens
SHOWN = 20  # rows of a long table
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """Of a split. asked, got: shares of all tokens, asked None where records were held out by name;
    fair: between half and twice what was asked.
    """

    name: str
    asked: float | None
    got: float
    tokens: int
    documents: int
    groups: int
    gc: float

    @property
    def fair(self) -> bool:
        return self.asked is None or self.asked / 2 <= self.got <= self.asked * 2


@dataclass(frozen=True)
class Facts:
    """lengths: bases of each record (tokens of each document where records are not known). gc: of
    each document with letters, and letters: how many those are. tokens: how often each occurs,
    [vocab_size]. sources: file → documents, bases, tokens. weights: what a token counts for → how
    many do. in_no_part: tokens that the cuts left out, and documents of which nothing is in one.
    """

    dataset: Dataset
    lengths: Ints
    gc: Floats
    letters: Ints
    tokens: Ints
    sources: dict[str, tuple[int, int, int]]
    split: Split
    parts: list[Part]
    in_no_part: tuple[int, int]
    weights: dict[float, int]
    duplicates: list[list[str]]

    @property
    def counts(self) -> dict[str, int]:
        return self.dataset.manifest.counts if self.dataset.manifest else {}

    @property
    def gc_of_all(self) -> float:
        total = int(self.letters.sum())
        return float((self.gc * self.letters).sum()) / total if total else float("nan")

    @property
    def not_acgt(self) -> int:
        """Tokens that hold another letter than A, C, G and T."""
        names = self.dataset.tokenizer.names()
        other = [name == "[UNK]" or bool(set(name) & set(LETTERS[4:])) for name in names]
        known = [name == "[UNK]" or set(name) <= set(LETTERS) for name in names]
        return int(self.tokens[np.array(other) & np.array(known)].sum())


def facts_of(dataset: Dataset, flags: Data) -> Facts:
    """All of them."""
    (split,) = split_datasets([dataset], flags)
    letters = _letters_of(dataset)
    gc, acgt, tokens = _letters(dataset, *letters)
    lengths = np.diff(dataset.tokens.document_offsets)
    if dataset.manifest is not None and ENDING in dataset.manifest.files:
        lengths = np.array([record.bases for record in read_records(dataset.prefix)])
    share = np.divide(gc, acgt, where=acgt > 0, out=np.zeros(len(gc)))
    return Facts(
        dataset,
        lengths[lengths > 0],
        share[acgt > 0],
        acgt[acgt > 0],
        tokens,
        _sources(dataset),
        split,
        _parts(dataset, split, flags, gc, acgt, letters),
        in_no_part(dataset, split),
        _weights(dataset),
        _duplicates(dataset),
    )


def _letters(dataset: Dataset, gc_of: Ints, acgt_of: Ints) -> tuple[Ints, Ints, Ints]:
    """Of each document its letters G and C, and its letters A, C, G and T; how often each token
    occurs. gc_of, acgt_of: the same letters of each token of the vocabulary.
    """
    offsets = dataset.tokens.document_offsets
    gc, acgt = np.zeros((2, dataset.tokens.num_documents), np.int64)
    counts = np.zeros(len(gc_of), np.int64)
    for start in range(0, dataset.tokens.num_tokens, BLOCK):
        piece = dataset.tokens.read(start, min(BLOCK, dataset.tokens.num_tokens - start))
        check_inside(dataset, start, piece)
        counts += np.bincount(piece, minlength=len(counts))
        low, high = np.searchsorted(offsets, (start + 1, start + len(piece)))
        starts = np.union1d([start], offsets[low:high])  # documents of no tokens start with others
        places = np.searchsorted(offsets, starts, side="right") - 1
        gc[places] += np.add.reduceat(gc_of[piece], starts - start)
        acgt[places] += np.add.reduceat(acgt_of[piece], starts - start)
    return gc, acgt, counts


def _letters_of(dataset: Dataset) -> tuple[Ints, Ints]:
    """Of each token of the vocabulary its letters G and C, and its letters A, C, G and T."""
    bases = [name if set(name) <= set(LETTERS) else "" for name in dataset.tokenizer.names()]
    gc = np.array([sum(map(name.count, "GC")) for name in bases])
    return gc, np.array([sum(map(name.count, "ACGT")) for name in bases])


def _letters_inside(
    dataset: Dataset, starts: Ints, lengths: Ints, gc_of: Ints, acgt_of: Ints
) -> tuple[int, int]:
    """The same of some stretches of tokens."""
    gc = acgt = 0
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        for at in range(start, start + length, BLOCK):
            piece = dataset.tokens.read(at, min(BLOCK, start + length - at))
            gc, acgt = gc + int(gc_of[piece].sum()), acgt + int(acgt_of[piece].sum())
    return gc, acgt


def _sources(dataset: Dataset) -> dict[str, tuple[int, int, int]]:
    """Documents, bases and tokens of each file, the largest first."""
    documents: Counter[str] = Counter()
    bases: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    if dataset.manifest is None or ENDING not in dataset.manifest.files:
        return {}
    lengths, at = np.diff(dataset.tokens.document_offsets), 0
    for record in read_records(dataset.prefix):
        documents[record.file] += record.documents
        bases[record.file] += record.bases
        tokens[record.file] += int(lengths[at : at + record.documents].sum())
        at += record.documents
    return {name: (documents[name], bases[name], count) for name, count in tokens.most_common()}


def _parts(
    dataset: Dataset, split: Split, flags: Data, gc: Ints, acgt: Ints, letters: tuple[Ints, Ints]
) -> list[Part]:
    """gc, acgt: of each document; letters: the same of each token, for documents that were cut."""
    documents = documents_of(dataset)
    owner, lengths = documents.owner, np.diff(documents.offsets)
    total, named = dataset.tokens.num_tokens, asked_names(flags)
    rows = []
    for name, share in zip(PARTS, parse_split(flags.split), strict=True):
        segments = split.parts[name]
        inside = np.searchsorted(documents.offsets, segments.start, side="right") - 1
        whole = segments.length == lengths[inside]
        starts, sizes = segments.start[~whole], segments.length[~whole]
        gc_of_cut, acgt_of_cut = _letters_inside(dataset, starts, sizes, *letters)
        gc_of_all = int(gc[inside[whole]].sum()) + gc_of_cut
        count = int(acgt[inside[whole]].sum()) + acgt_of_cut
        rows.append(
            Part(
                name,
                None if name in named else float(share),
                segments.num_tokens / total if total else 0.0,
                segments.num_tokens,
                len(segments.start),
                len(np.unique(owner[inside])),
                gc_of_all / count if count else float("nan"),
            )
        )
    return rows


def _weights(dataset: Dataset) -> dict[float, int]:
    manifest = dataset.manifest
    if manifest is None or "weights" not in manifest.files:
        return {}
    counts = np.zeros(256, np.int64)
    with open(f"{dataset.prefix}.weights", "rb") as file:
        while raw := file.read(BLOCK):
            counts += np.bincount(np.frombuffer(raw, np.uint8), minlength=256)
    return {weight: int(counts[place]) for place, weight in enumerate(manifest.weights)}


def _duplicates(dataset: Dataset) -> list[list[str]]:
    """The first rows of the table of duplicates, with its header."""
    manifest: Any = dataset.manifest
    if manifest is None or "duplicates.tsv" not in manifest.files:
        return []
    with Path(f"{dataset.prefix}.duplicates.tsv").open(encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t") for line in islice(file, SHOWN + 1)]


def names_of_parts(facts: Facts) -> dict[str, list[str]]:
    """The records of validation and test, by part."""
    records = list(document_records(facts.dataset))
    offsets = facts.dataset.tokens.document_offsets
    found = {}
    for part in PARTS[1:]:
        start = facts.split.parts[part].start
        numbers = np.searchsorted(offsets, start, side="right") - 1
        found[part] = list(dict.fromkeys(records[n].name for n in numbers.tolist()))
    return found
