"""What --data-path names, prepared and looked over; before the ranks start, and again by each of
them.

No torch here: the check before a launch must be quick.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from longseq.data.fasta_cache import ensure_prepared
from longseq.data.indexed.ends import Ends, blocks
from longseq.data.indexed.format import IndexedTokens, Ints
from longseq.data.indexed.manifest import DatasetManifest, check_digests, check_sizes, read_manifest
from longseq.data.request import check_wanted
from longseq.data.samples.blend import read_blend
from longseq.data.samples.cuts import Documents
from longseq.data.tokenizers.base import Tokenizer
from longseq.data.tokenizers.kinds import TAGGED, TYPE_FLAG, files_of
from longseq.data.tokenizers.registry import tokenizer_beside, tokenizer_from
from longseq.data.tokenizers.tagged import Tagged
from longseq.errors import UserError
from longseq.host.atomic_files import Sha256

# The files that decide which tokens a sample has and what they count; names of records do not
OF_SAMPLES = {"bin", "idx", "weights", "groups", "places", "reaches", "group_of"}
PIECES, PIECE = 64, 1 << 12  # tokens that are looked at where no file has a digest
DIGEST_UP_TO = 1 << 30  # bytes; a second or two. Larger data: 'longseq data verify'


@dataclass(frozen=True)
class Dataset:
    """One prepared prefix. closed: its documents end with the end token."""

    prefix: str
    weight: Fraction
    tokens: IndexedTokens
    tokenizer: Tokenizer
    manifest: DatasetManifest | None
    closed: bool


def check_data(data_path: str, tokenizer_type: str = "") -> int:
    """Check everything that can be checked without a run; the size of the vocabulary.

    Files up to a gigabyte are digested too, so that a flipped bit is found here; of other programs'
    files so many tokens are read, and the end of each document among them.
    """
    datasets = open_datasets(data_path, tokenizer_type)
    for dataset in datasets:
        manifest = dataset.manifest
        if manifest and sum(file["bytes"] for file in manifest.files.values()) <= DIGEST_UP_TO:
            check_digests(dataset.prefix, manifest)
        if manifest is None:
            _check_tokens(dataset)
    return datasets[0].tokenizer.vocab_size


def open_datasets(
    data_path: str, tokenizer_type: str = "", unsaid: Tokenizer | None = None
) -> list[Dataset]:
    """Each dataset that --data-path names; they share a vocabulary. unsaid: what the tokens are of
    data that do not say it themselves, as a network knows that was trained on them.
    """
    datasets: list[Dataset] = []
    named: dict[str, str] = {}
    for part in read_blend(data_path):
        dataset = _open(part.path, part.weight, tokenizer_type, unsaid)
        file = os.path.realpath(f"{dataset.prefix}.bin")
        if file in named:
            raise UserError(
                f"--data-path {data_path}: {named[file]} and {part.path} are the same data, whose"
                " samples would come twice: make them one line, with the sum of their weights"
            )
        named[file] = part.path
        datasets.append(dataset)
    first = datasets[0]
    for other in datasets[1:]:
        if other.tokenizer.names() != first.tokenizer.names():
            raise UserError(
                f"--data-path {data_path}: {first.prefix} has the tokens of"
                f" {first.tokenizer.specification}, {other.prefix} those of"
                f" {other.tokenizer.specification}: prepare them alike"
            )
    return datasets


def check_unchanged(datasets: Sequence[Dataset]) -> None:
    """Once all files are open: refuse those of two preparations. Another takes the .idx away before
    it replaces any, and puts its own there after all others.
    """
    for dataset in datasets:
        there = os.path.exists(f"{dataset.prefix}.idx")
        if not there or read_manifest(dataset.prefix) != dataset.manifest:
            raise UserError(
                f"{dataset.prefix} was prepared again while it was opened: start again once that"
                " has ended"
            )


def contents(datasets: Sequence[Dataset]) -> dict[str, Any]:
    """Each data set's size and a hash of what is in it, whatever it is called; and one of them all
    with their shares. What samples are made of it is numbering.py's subject.
    """
    sets = [
        {
            "name": dataset.prefix,
            "tokens": dataset.tokens.num_tokens,
            "documents": dataset.tokens.num_documents,
            "sha256": _digest(dataset),
        }
        for dataset in datasets
    ]
    total = sum(dataset.weight for dataset in datasets)
    shares = [str(dataset.weight / total) for dataset in datasets]
    whole = json.dumps([shares, [one["sha256"] for one in sets]])
    return {"sha256": Sha256(whole.encode()).hexdigest(), "sets": sets}


def _digest(dataset: Dataset) -> str:
    """Of the digests that the manifest has; of other programs' data, which may be large and have
    none, of all lengths and of tokens here and there.
    """
    tokens, manifest = dataset.tokens, dataset.manifest
    if manifest is not None:
        files = {name: manifest.files[name]["sha256"] for name in OF_SAMPLES & set(manifest.files)}
        return Sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    sha = Sha256(tokens.document_offsets.tobytes())
    for start in np.linspace(0, tokens.num_tokens - 1, PIECES).astype(np.int64).tolist():
        sha.update(tokens.read(start, min(PIECE, tokens.num_tokens - start)).tobytes())
    return sha.hexdigest()


def documents_of(dataset: Dataset) -> Documents:
    """What a split must know of a dataset."""
    offsets, manifest = dataset.tokens.document_offsets, dataset.manifest
    if manifest is None:
        return Documents(offsets, dataset.closed)
    options = manifest.options
    groups = _integers(dataset, "groups")
    by_default = "record" if manifest.format == 1 else "auto"
    places = _integers(dataset, "places")
    reaches = _integers(dataset, "reaches")
    mirrored = bool(options.get("reverse_complement"))
    if places is None and mirrored and manifest.format == 1:
        places = _alternating(offsets, options)
    record = start = backward = None
    if places is not None:
        record, start = places.reshape(-1, 2).T
        backward = start < 0
        start = np.where(backward, ~start, start)
    return Documents(
        offsets,
        dataset.closed,
        groups,
        options.get("group_by", by_default) != by_default,
        record,
        start,
        backward,
        getattr(dataset.tokenizer, "bases", 1),
        mirrored,
        None if reaches is None else reaches.reshape(-1, 2),
        _integers(dataset, "group_of"),
        len(list(filter(None, options.get("tags", "").split(",")))),
    )


def _integers(dataset: Dataset, ending: str) -> Ints | None:
    manifest = dataset.manifest
    if manifest is None or ending not in manifest.files:
        return None
    return np.fromfile(f"{dataset.prefix}.{ending}", dtype="<i8").astype(np.int64)


def _alternating(offsets: Ints, options: dict[str, Any]) -> Ints | None:
    """Places in data of format 1: a record is followed by its other strand, if it was not split."""
    count = len(offsets) - 1
    if options.get("ambiguous") == "split" or count % 2:
        return None
    numbers = np.arange(count)
    return np.stack((numbers // 2, np.where(numbers % 2, -1, 0)), axis=1)


def _open(path: str, weight: Fraction, tokenizer_type: str, unsaid: Tokenizer | None) -> Dataset:
    prefix = ensure_prepared(path, tokenizer=tokenizer_type or "nucleotide")
    manifest = read_manifest(prefix)
    silent = unsaid if manifest is None else None
    tokenizer = silent or _tokenizer(prefix, manifest, tokenizer_type)
    if manifest is not None:
        check_sizes(prefix, manifest)
    tokens = IndexedTokens(prefix)
    if tokens.num_tokens == 0:
        raise UserError(f"{prefix}.bin holds no tokens: prepare other files")
    ends = Ends(tokens, tokenizer.end_of_document)
    ends.look_at_some(tokens)
    ends.check(ours=manifest is not None)
    closed = ends.closed > 0
    if tokens.unindexed_ends and not closed:
        raise UserError(f"{tokens.bin_path} is longer than its .idx says: prepare the data again")
    dataset = Dataset(prefix, weight, tokens, tokenizer, manifest, closed)
    if silent is not None:  # a guess, until its tokens have been looked at
        _check_tokens(dataset)
    return dataset


def _tokenizer(prefix: str, manifest: DatasetManifest | None, wanted: str) -> Tokenizer:
    """The data's own tokenizer; one that is asked for must be the same."""
    check_wanted(prefix, manifest, wanted)
    if manifest is None:
        return tokenizer_beside(prefix, wanted)
    tokenizer = tokenizer_beside(prefix, manifest.tokenizer)
    size = tokenizer.vocab_size
    if size != manifest.vocab_size or manifest.largest_token >= size:
        raise UserError(
            f"{prefix}.json contradicts its tokenizer {manifest.tokenizer}: prepare the data again"
        )
    files = files_of(wanted.removeprefix(TAGGED))
    if files and all(map(os.path.exists, files)):  # else the data's own copies say what it was
        own = tokenizer.inner if isinstance(tokenizer, Tagged) else tokenizer
        given = tokenizer_from(wanted.removeprefix(TAGGED), TYPE_FLAG)
        if (given.names(), given.end_of_document) != (own.names(), own.end_of_document):
            raise UserError(
                f"{TYPE_FLAG} {wanted}: {prefix} was prepared with another: leave the flag out"
            )
    return tokenizer


def _check_tokens(dataset: Dataset) -> None:
    """Files of other programs have no manifest that says their largest token, and may have been
    joined of some with end tokens and some without.
    """
    tokens, size = dataset.tokens, dataset.tokenizer.vocab_size
    ends = Ends(tokens, dataset.tokenizer.end_of_document)
    for start, piece in blocks(tokens, DIGEST_UP_TO):
        if int(piece.max()) >= size or int(piece.min()) < 0:
            outside = piece[(piece < 0) | (piece >= size)]
            raise UserError(
                f"{tokens.bin_path} holds token {int(outside[0])} outside the vocabulary"
                f" of {size} of {dataset.tokenizer.specification}"
            )
        ends.look(start, piece)
    ends.check(ours=False)
