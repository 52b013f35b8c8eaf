"""What a stream of any length comes in: pieces of bounded memory, cut between records.

The pieces are what workers parse. A record that is longer than a piece (a chromosome, or 500
million letters on one line) comes by itself, as an iterator of its parts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from longseq.data.sources.annotation.features import Feature

TEXTS = ("text", "jsonl", "table")  # for a tokenizer of text, what they hold is text as it is


class Record(NamedTuple):
    """One record: its name and its letters, or text in UTF-8.

    facts: JSON of what its file says of it ("organism"), or "". features: its annotated stretches.
    """

    name: str
    content: bytes
    facts: str = ""
    features: tuple[Feature, ...] = ()


@dataclass(frozen=True)
class Chunk:
    """Whole records of one kind, as stored."""

    kind: str
    path: str
    raw: bytes


@dataclass(frozen=True)
class Parsed:
    """Whole records that were read already."""

    kind: str
    path: str
    records: list[Record]


@dataclass(frozen=True)
class LongRecord:
    """One record; `pieces` must be read to the end before the next is."""

    kind: str
    path: str
    name: str
    pieces: Iterator[bytes]
    facts: str = ""


Piece = Chunk | Parsed | LongRecord


def gathered(
    found: Iterator[Record | LongRecord], kind: str, path: str, size: int
) -> Iterator[Piece]:
    """Records as pieces of about `size` bytes; one that is longer comes in slices."""
    waiting: list[Record] = []
    total = 0
    for record in found:
        long = isinstance(record, LongRecord) or len(record.content) > size
        if waiting and (long or total >= size):
            yield Parsed(kind, path, waiting)
            waiting, total = [], 0
        if isinstance(record, LongRecord):
            yield record
        elif long:
            yield LongRecord(kind, path, record.name, _slices(record.content, size), record.facts)
        else:
            waiting.append(record)
            total += len(record.content)
    if waiting:
        yield Parsed(kind, path, waiting)


def _slices(content: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]
