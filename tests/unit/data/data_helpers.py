"""Small datasets for the tests of data."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from longseq.config.arguments import Data
from longseq.data.indexed.format import IndexedTokens
from longseq.data.indexed.manifest import DatasetManifest
from longseq.data.indexed.writer import IndexedWriter
from longseq.data.prepare.job import prepare, quiet
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.settings import Settings
from longseq.data.samples.cuts import Segments
from longseq.data.samples.stream import Stream
from longseq.data.sources.inputs import expand

END = 0
LAMBDA = Path(__file__).parents[3] / "data" / "NC_001416.1.fa"


def records_of(content: str) -> list[tuple[str, str]]:
    """An independent reading of FASTA."""
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    return list(SimpleFastaParser(io.StringIO(content)))


def options(data_path: str = "", split: str = "1,0,0", **flags: Any) -> Data:
    """The flags of data, all for training unless a split is given."""
    return Data(data_path=data_path, split=split, **flags)


def make(
    folder: Path, content: bytes | str, *, name: str = "in.fa", workers: int = 1, chunk: int = 0,
    group_by: str = "auto", **recipe: Any,
) -> tuple[str, DatasetManifest]:  # fmt: skip
    """Prepare a file with this content; the prefix and its manifest."""
    source = folder / name
    source.write_bytes(content.encode() if isinstance(content, str) else content)
    prefix = str(folder / "out")
    settings = Settings(Recipe(**recipe), workers, group_by, chunk)
    return prefix, prepare(expand([str(source)]), prefix, settings, True, quiet)


def texts(prefix: str) -> list[str]:
    """Every document, decoded without its end token."""
    from longseq.data.datasets import open_datasets

    (dataset,) = open_datasets(prefix)
    return [
        dataset.tokenizer.decode(dataset.tokens.document(i)[:-1])
        for i in range(dataset.tokens.num_documents)
    ]


def unique_stream(folder: Path, lengths: list[int], seed: int, closed: bool = True) -> Stream:
    """Documents of unique tokens 1, 2, 3 …, each closed by END (or left open)."""
    writer = IndexedWriter(str(folder / "unique"), np.int32)
    following = 1
    for length in lengths:
        writer.add(np.arange(following, following + length))
        following += length
        if closed:
            writer.add(np.array([END]))
        writer.end_document()
    writer.finish()
    tokens = IndexedTokens(str(folder / "unique"))
    offsets = tokens.document_offsets
    count = len(lengths)
    segments = Segments(offsets[:-1], np.diff(offsets), np.full(count, closed))
    return Stream(tokens, segments, END, seed)
