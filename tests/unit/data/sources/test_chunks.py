"""Streams cut between records, wherever the blocks that are read end."""

from __future__ import annotations

import io
from typing import cast

import pytest

from longseq.data.sources.chunks import pieces
from longseq.data.sources.inputs import Metered, Source
from longseq.data.sources.pieces import Chunk, LongRecord
from longseq.data.sources.tables import Columns


class Blocks(io.BytesIO):
    """Counts the bytes of all that is put behind each other with +."""

    joined = 0

    def read(self, size: int | None = -1) -> bytes:
        return Block(self, super().read(size))


class Block(bytes):
    def __new__(cls, counter: Blocks, content: bytes) -> Block:
        block = super().__new__(cls, content)
        block.counter = counter
        return block

    counter: Blocks

    def __radd__(self, other: bytes) -> bytes:
        self.counter.joined += len(other) + len(self)
        return Block(self.counter, b"".join((other, self)))


def cut(kind: str, stream: io.BytesIO, size: int) -> list[bytes]:
    source = Source("x", kind, stream, cast(Metered, None), False)
    found = []
    for piece in pieces(source, size, Columns(), ""):
        assert isinstance(piece, Chunk | LongRecord)
        found.append(piece.raw if isinstance(piece, Chunk) else b"".join(piece.pieces))
    return found


@pytest.mark.parametrize("kind", ["genbank", "embl", "jsonl"])
def test_a_long_record_is_joined_once(kind: str) -> None:
    """Else half a gigabyte on a line takes a quarter of an hour."""
    record = b"x" * 1000 + (b"\n" if kind == "jsonl" else b"\n//\n")
    stream = Blocks(record + record)
    assert b"".join(cut(kind, stream, 10)) == record + record
    assert stream.joined < 3 * len(record + record)
