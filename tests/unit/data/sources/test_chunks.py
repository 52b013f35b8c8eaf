"""Streams cut between records, wherever the blocks that are read end."""

from __future__ import annotations

import io
from typing import cast

import pytest

from longseq.data.sources.chunks import pieces
from longseq.data.sources.inputs import Metered, Source
from longseq.data.sources.pieces import Chunk, LongRecord
from longseq.data.sources.records import records
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


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", range(1, 12))
def test_a_line_of_text_is_all_of_it(size: int, end: bytes) -> None:
    """Blanks and empty lines before the first letter too; a line end is none, also where the line
    is longer than a block, and a block ends within the line end.
    """
    lines = [b"", b"  two", b"a longer line\rof text", b"", b"   ", b"end", b"  "]
    found = []
    for stretch in cut("text", io.BytesIO(end.join(lines) + end), size):
        found += [line.removesuffix(b"\r") for line in stretch.removesuffix(b"\n").split(b"\n")]
    assert found == lines


@pytest.mark.parametrize("size", range(9, 20))
def test_a_record_without_letters_wherever_a_block_ends(size: int) -> None:
    """Its header may fill the blocks that are read, so that nothing but the next one follows."""
    stream = io.BytesIO(b">aaaaaaa\n>b\n>ccccccc\n>d\nACGT")
    found = []
    source = Source("x", "fasta", stream, cast(Metered, None), False)
    for piece in pieces(source, size, Columns(), ""):
        if isinstance(piece, LongRecord):
            found.append((piece.name, b"".join(piece.pieces).strip()))
        else:
            assert isinstance(piece, Chunk)
            found += [(record.name, record.content.strip()) for record in records(piece)]
    assert found == [("aaaaaaa", b""), ("b", b""), ("ccccccc", b""), ("d", b"ACGT")]
