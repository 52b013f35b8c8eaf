"""`open_data`: what the trainer asks for."""

from dataclasses import dataclass

from longseq.config.arguments import Data
from longseq.data.datasets import Dataset, open_datasets, strands
from longseq.data.samples.samples import BlendedSamples, FileSamples, Samples
from longseq.data.samples.split import Split, parse_split, split_documents
from longseq.data.samples.stream import Stream
from longseq.data.tokenizers.base import Tokenizer
from longseq.errors import UserError


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from and is tried on, and its vocabulary. A part of weight 0 is None.

    notes: lines worth printing at the start of a run.
    """

    tokenizer: Tokenizer
    vocab_size: int
    train: Samples | None
    valid: Samples | None
    notes: tuple[str, ...]


def open_data(options: Data, seq_length: int, seed: int) -> TrainingData:
    """Open what --data-path names; a FASTA file is prepared first. UserError names the remedy."""
    if not 0 <= options.sample_overlap < seq_length:
        raise UserError(
            f"--sample-overlap {options.sample_overlap} is not between 0 and --seq-length"
            f" {seq_length}"
        )
    datasets = open_datasets(options.data_path, options.tokenizer_type)
    shares = parse_split(options.split)
    splits = [
        split_documents(d.tokens.document_offsets, d.closed, shares, d.groups, strands(d))
        for d in datasets
    ]
    notes = [_describe(dataset, split) for dataset, split in zip(datasets, splits, strict=True)]
    samples: dict[str, Samples | None] = {}
    for name in ("train", "valid"):
        parts = [
            _samples(dataset, split, name, seq_length, seed, options)
            for dataset, split in zip(datasets, splits, strict=True)
        ]
        whole = [part for part in parts if part is not None]
        if not whole:
            samples[name] = None
            continue
        if len(whole) < len(parts):
            raise UserError(f"--split {options.split}: a dataset of the blend has no {name} part")
        weights = [dataset.weight for dataset in datasets]
        samples[name] = whole[0] if len(whole) == 1 else BlendedSamples(whole, weights)
        notes += _warnings(name, whole, datasets)
    tokenizer = datasets[0].tokenizer
    return TrainingData(
        tokenizer, tokenizer.vocab_size, samples["train"], samples["valid"], tuple(notes)
    )


def _samples(
    dataset: Dataset, split: Split, name: str, seq_length: int, seed: int, options: Data
) -> FileSamples | None:
    segments = split.parts[name]
    if not segments.num_tokens:
        return None
    end, size = dataset.tokenizer.end_of_document, dataset.tokenizer.vocab_size
    return FileSamples(Stream(dataset.tokens, segments, end, seed), seq_length, size, options)


def _describe(dataset: Dataset, split: Split) -> str:
    tokens = dataset.tokens
    size = f"{tokens.num_tokens:,} tokens in {tokens.num_documents:,} documents"
    return f"{dataset.prefix}: {size}, {dataset.tokenizer.specification}, cut by {split.by}"


def _warnings(name: str, parts: list[FileSamples], datasets: list[Dataset]) -> list[str]:
    found = []
    for part, dataset in zip(parts, datasets, strict=True):
        if part.repeats_within > 1:
            found.append(
                f"{dataset.prefix}: {name} has {part.num_tokens:,} tokens, so that a sample of"
                f" {part.seq_length:,} holds them {part.repeats_within:.1f} times"
            )
        if part.options.no_cross_document:
            found.append(f"{dataset.prefix}: {name} samples are {part.fill:.1%} full")
    return found
