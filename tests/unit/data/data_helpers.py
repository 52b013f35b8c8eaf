"""Small datasets for the tests of data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from longseq.data.indexed.format import IndexedTokens, IndexedWriter
from longseq.data.indexed.manifest import DatasetManifest
from longseq.data.prepare.encode import Recipe
from longseq.data.prepare.prepare import Settings, prepare, quiet
from longseq.data.samples.split import Segments
from longseq.data.samples.stream import Stream
from longseq.data.sources.files import expand

END = 0


@dataclass(frozen=True)
class Options:
    """The flags open_data reads."""

    data_path: str
    tokenizer_type: str = ""
    split: str = "1,0,0"
    reset_position_ids: bool = False
    reset_attention_mask: bool = False
    eod_mask_loss: bool = False
    no_cross_document: bool = False
    sample_overlap: int = 0


def make(
    folder: Path, content: bytes | str, *, name: str = "in.fa", workers: int = 1, chunk: int = 0,
    group_by: str = "record", **recipe: object,
) -> tuple[str, DatasetManifest]:  # fmt: skip
    """Prepare a file with this content; the prefix and its manifest."""
    source = folder / name
    source.write_bytes(content.encode() if isinstance(content, str) else content)
    prefix = str(folder / "out")
    settings = Settings(Recipe(**recipe), workers, group_by, chunk)  # type: ignore[arg-type]
    return prefix, prepare(expand([str(source)]), prefix, settings, True, quiet)


def texts(prefix: str) -> list[str]:
    """Every document, decoded without its end token."""
    from longseq.data.checking import open_datasets

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
