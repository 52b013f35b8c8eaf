"""UCSC's .2bit → records (https://genome.ucsc.edu/FAQ/FAQformat.html#format7).

Four bases in a byte, and beside them which stretches are unknown (N) and which soft-masked, which
stay lower case, as in the FASTA that UCSC's twoBitToFa writes.
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from longseq.data.indexed.format import Ints
from longseq.data.sources.inputs import Source
from longseq.data.sources.names import header_name
from longseq.data.sources.pieces import LongRecord, Piece, Record, gathered
from longseq.errors import UserError

MAGIC = 0x1A412743
UNREAD = "which is not read: give it as FASTA, which UCSC's twoBitToFa makes of it"
BASES = np.frombuffer(b"TCAG", np.uint8)
FOUR = BASES[np.arange(256)[:, None] >> np.array([6, 4, 2, 0]) & 3].view("<u4")[:, 0]  # of a byte
LOWER = ord("a") - ord("A")  # one bit


def twobit_pieces(source: Source, size: int, scratch: str) -> Iterator[Piece]:
    """A file's records in order; scratch: where a copy may lie of what is not a file here."""
    with source.local(scratch) as path, open(path, "rb") as file:
        found = _records(source, file, read_index(source.path, file), size)
        yield from gathered(found, "2bit", source.path, size)


def _records(
    source: Source, file: BinaryIO, index: list[tuple[str, int, int]], size: int
) -> Iterator[Record | LongRecord]:
    done, total = 0, max(1, sum(length for _, _, length in index))
    for name, at, length in index:
        windows = _windows(_Packed(file, at), size, source, done, total)
        if length > size:
            yield LongRecord("2bit", source.path, name, windows)
        else:
            yield Record(name, b"".join(windows))
        done += length


def _windows(
    record: "_Packed", size: int, source: Source, done: int, total: int
) -> Iterator[bytes]:
    """A record's letters, while the source says how many of all have come."""
    for start in range(0, record.length, size):
        stop = min(start + size, record.length)
        source.part = (done + stop) / total
        yield record.letters(start, stop)


def read_index(shown: str, file: BinaryIO) -> list[tuple[str, int, int]]:
    """The name of each record, where it begins and its length; UserError where the file does not
    hold all of them.
    """
    try:
        if file.read(4) == struct.pack(">I", MAGIC):
            raise UserError(f"{shown} is .2bit of big-endian machines, {UNREAD}")
        version, count, _ = _numbers(file, 3)
        if version > 1:
            raise UserError(f"{shown} is .2bit of version {version}, {UNREAD}")
        if not count:
            raise UserError(f"{shown} has no record: leave it out")
        index = [_entry(file, version) for _ in range(count)]
        return [(name, at, _Packed(file, at).length) for name, at in index]
    except (struct.error, ValueError):
        raise UserError(f"{shown} is damaged or cut off: fetch it again") from None


def _numbers(file: BinaryIO, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}I", file.read(4 * count))


def _entry(file: BinaryIO, version: int) -> tuple[str, int]:
    """A name, and where its record begins."""
    (length,) = struct.unpack("B", file.read(1))
    name = file.read(length)
    (at,) = struct.unpack("<Q" if version else "<I", file.read(8 if version else 4))
    return header_name(name), at


class _Packed:
    """One record; ValueError where the file does not hold it."""

    def __init__(self, file: BinaryIO, at: int) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        if at > self._size:
            raise ValueError
        file.seek(at)
        (self.length,) = _numbers(file, 1)
        self._unknown = self._stretches()
        self._masked = self._stretches()
        self._begin = file.tell() + 4  # behind a number that says nothing
        if self._begin + (self.length + 3) // 4 > self._size:
            raise ValueError

    def _stretches(self) -> Ints:
        """The next stretches, their first letters and one past their last ones, int64 [2, n]."""
        (count,) = _numbers(self._file, 1)
        if self._file.tell() + 8 * count > self._size:
            raise ValueError
        found = np.frombuffer(self._file.read(8 * count), "<u4").reshape(2, count).astype(np.int64)
        found[1] += found[0]
        if found.max(initial=0) > self.length:
            raise ValueError
        return found

    def letters(self, start: int, stop: int) -> bytes:
        """Those from one place to another."""
        first = start // 4
        self._file.seek(self._begin + first)
        packed = np.frombuffer(self._file.read((stop + 3) // 4 - first), np.uint8)
        found = FOUR[packed].view(np.uint8)[start - 4 * first :][: stop - start]
        for stretches, kept, bits in ((self._unknown, 0, ord("N")), (self._masked, 255, LOWER)):
            near = stretches[:, (stretches[0] < stop) & (stretches[1] > start)]
            for low, high in (near.clip(start, stop) - start).T.tolist():
                found[low:high] = found[low:high] & kept | bits
        return found.tobytes()
