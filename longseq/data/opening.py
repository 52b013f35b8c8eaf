"""`open_data`: what the trainer asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from longseq.config.arguments import Data
from longseq.data.datasets import Dataset, check_unchanged, open_datasets
from longseq.data.held_out import split_datasets
from longseq.data.indexed.format import TokenFile
from longseq.data.indexed.writer import WEIGHTS
from longseq.data.samples.cuts import Segments
from longseq.data.samples.samples import BlendedSamples, FileSamples, Samples, Weights
from longseq.data.samples.split import Split
from longseq.data.samples.stream import OtherStrand, Stream
from longseq.data.tokenizers.base import SequenceTokenizer, Tokenizer
from longseq.errors import UserError
from longseq.reports.format import counted


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from and is tried on, and its vocabulary. A part of weight 0 is None.

    notes: lines worth printing at the start of a run. cuts: each dataset and how it was divided,
    for held_out.refuse_empty, which knows what a run needs.
    """

    tokenizer: Tokenizer
    vocab_size: int
    train: Samples | None
    valid: Samples | None
    notes: tuple[str, ...]
    cuts: list[tuple[Dataset, Split]]


def open_data(options: Data, seq_length: int, seed: int, with_weights: bool = True) -> TrainingData:
    """Open what --data-path names; a FASTA file is prepared first. UserError names the remedy.

    with_weights: whether tokens count for what the data say; else each counts 1.
    """
    datasets = open_datasets(options.data_path, options.tokenizer_type)
    cuts = list(zip(datasets, split_datasets(datasets, options), strict=True))
    notes = [line for dataset, split in cuts for line in _describe(dataset, split, with_weights)]
    samples: dict[str, Samples | None] = {}
    for name in ("train", "valid"):
        parts = [
            (
                _samples(dataset, split.parts[name], seq_length, seed, options, name, with_weights),
                dataset,
            )
            for dataset, split in cuts
            if split.parts[name].num_tokens
        ]
        samples[name] = _blended(parts)
        notes += _warnings(name, parts)
    check_unchanged(datasets)
    tokenizer = datasets[0].tokenizer
    return TrainingData(
        tokenizer, tokenizer.vocab_size, samples["train"], samples["valid"], tuple(notes), cuts
    )


def _blended(parts: list[tuple[FileSamples, Dataset]]) -> Samples | None:
    if len(parts) < 2:
        return parts[0][0] if parts else None
    total = sum(dataset.weight for _, dataset in parts)
    return BlendedSamples(
        [part for part, _ in parts], [dataset.weight / total for _, dataset in parts]
    )


def _samples(
    dataset: Dataset, segments: Segments, seq_length: int, seed: int, options: Data, name: str,
    with_weights: bool,
) -> FileSamples:  # fmt: skip
    end, size = dataset.tokenizer.end_of_document, dataset.tokenizer.vocab_size
    other = _other_strand(dataset, options.reverse_complement_prob if name == "train" else 0.0)
    stream = Stream(dataset.tokens, segments, end, seed, other)
    weights = _weights(dataset, segments, seed, other) if with_weights else None
    return FileSamples(stream, seq_length, size, options, weights)


def _other_strand(dataset: Dataset, chance: float) -> OtherStrand | None:
    """What --reverse-complement-prob asks for; UserError where the data cannot do it."""
    if not chance:
        return None
    made = dataset.manifest.options if dataset.manifest is not None else {}
    for name, why in (
        ("reverse_complement", "hold both strands of everything"),
        ("genes", "are genes, each read on its own strand"),
        ("features", "are features, each read on its own strand"),
        ("tags", "begin with tags, which must stay in front"),
    ):
        if made.get(name):
            raise UserError(
                f"--reverse-complement-prob {chance:g}: {dataset.prefix}'s documents {why}: leave"
                " the flag out"
            )
    if not isinstance(dataset.tokenizer, SequenceTokenizer):
        raise UserError(
            f"--reverse-complement-prob {chance:g}: {dataset.tokenizer.specification} tokens have"
            " no other strand: prepare with nucleotide, codon or kmer:K"
        )
    return OtherStrand(chance, dataset.tokenizer.other_strand())


def _weights(
    dataset: Dataset, segments: Segments, seed: int, other: OtherStrand | None
) -> Weights | None:
    """A stream of weights in step with the tokens', where the data have them; an end counts 1."""
    if dataset.manifest is None or WEIGHTS not in dataset.manifest.files:
        return None
    beside = TokenFile(f"{dataset.prefix}.{WEIGHTS}", np.dtype(np.uint8))
    levels = np.array(dataset.manifest.weights, dtype=np.float32)
    if other is not None:  # in step with the tokens, and the same on both strands
        other = OtherStrand(other.chance, np.arange(len(levels)))
    return Weights(Stream(beside, segments, 0, seed, other), levels)


def _describe(dataset: Dataset, split: Split, with_weights: bool) -> list[str]:
    tokens = dataset.tokens
    size = f"{tokens.num_tokens:,} tokens in {counted(tokens.num_documents, 'document')}"
    first = f"{dataset.prefix}: {size}, {dataset.tokenizer.specification}, cut by {split.by}"
    notes = list(split.notes)
    if dataset.manifest is not None and WEIGHTS in dataset.manifest.files:
        notes += _weights_said(dataset.manifest.options, with_weights)
    return [first, *(f"{dataset.prefix}: {note}" for note in notes)]


def _weights_said(made: Mapping[str, Any], with_weights: bool) -> list[str]:
    if not with_weights:
        return ["the data's weights do not act in this trainer: every token counts 1"]
    notes = []
    if made.get("tags"):
        notes.append(f"tags before documents count {made['tag_weight']:g} in the loss")
    lower, unknown = made["lower_case_weight"], made["unknown_weight"]
    if min(lower, unknown) < 1:
        if made.get("mask_lower_case"):
            lower = unknown
        notes.append(
            f"lower-case letters count {lower:g} in the loss, letters other than ACGT {unknown:g}"
        )
    return notes


def _warnings(name: str, parts: list[tuple[FileSamples, Dataset]]) -> list[str]:
    found = []
    for part, dataset in parts:
        if part.repeats_within > 1:
            found.append(
                f"{dataset.prefix}: {name} has {part.num_tokens:,} tokens, so that a sample of"
                f" {part.seq_length:,} holds them {part.repeats_within:.1f} times"
            )
        if part.options.no_cross_document:
            found.append(f"{dataset.prefix}: {name} samples are {part.fill:.1%} full")
    return found
