"""UCSC's .2bit → records, by py2bit; soft-masked bases stay lower case.

py2bit maps the file into memory and takes what is missing of a cut one for bases, so that where
each record ends is looked up first (the format: https://genome.ucsc.edu/FAQ/FAQformat.html#format7).
"""

import os
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from longseq.data.sources.inputs import Source
from longseq.data.sources.names import printable
from longseq.data.sources.pieces import LongRecord, Piece, Record, gathered
from longseq.errors import UserError

MAGIC = 0x1A412743
UNREAD = "which is not read: give it as FASTA, which UCSC's twoBitToFa makes of it"


def twobit_pieces(source: Source, size: int, scratch: str) -> Iterator[Piece]:
    """A file's records in order; scratch: where a copy may lie of what is not a file here."""
    import py2bit

    with source.local(scratch) as path:
        lengths = check(source.path, path)
        try:
            with py2bit.open(path, True) as file:
                found = _records(source, file, lengths, size)
                yield from gathered(found, "2bit", source.path, size)
        except RuntimeError as error:
            raise UserError(f"{source.path} is damaged ({error}): fetch it again") from None


def _records(
    source: Source, file: Any, lengths: dict[str, int], size: int
) -> Iterator[Record | LongRecord]:
    done, total = 0, max(1, sum(lengths.values()))
    for name, length in lengths.items():
        if length > size:
            windows = _windows(file, name, length, size)
            told = _told(windows, source, done, total)
            yield LongRecord("2bit", source.path, printable(name), told)
        else:
            letters = file.sequence(name) if length else ""
            yield Record(printable(name), letters.encode("ascii"))
        done += length
        source.part = done / total


def _windows(file: Any, name: str, length: int, size: int) -> Iterator[bytes]:
    for start in range(0, length, size):
        yield file.sequence(name, start, min(start + size, length)).encode("ascii")


def _told(windows: Iterator[bytes], source: Source, done: int, total: int) -> Iterator[bytes]:
    """The same, while the source says how many of its letters have come."""
    for letters in windows:
        done += len(letters)
        source.part = done / total
        yield letters


def check(shown: str, path: str) -> dict[str, int]:
    """The length of each record by name; UserError where the file does not hold all of them, or
    py2bit would print a line of its own.
    """
    size = os.path.getsize(path)
    try:
        with open(path, "rb") as file:
            if file.read(4) == struct.pack(">I", MAGIC):
                raise UserError(f"{shown} is .2bit of big-endian machines, {UNREAD}")
            version, count, _ = _numbers(file, 3)
            if version > 1:
                raise UserError(f"{shown} is .2bit of version {version}, {UNREAD}")
            if not count:
                raise UserError(f"{shown} has no record: leave it out")
            index = [_entry(file, version) for _ in range(count)]
            lengths = {name: _length(file, at, size) for name, at in index}
    except (struct.error, ValueError):
        raise UserError(f"{shown} is damaged or cut off: fetch it again") from None
    if len(lengths) != count:
        raise UserError(f"{shown}: two records have the same name: mend the file")
    return lengths


def _numbers(file: BinaryIO, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}I", file.read(4 * count))


def _entry(file: BinaryIO, version: int) -> tuple[str, int]:
    """A name, and where its record begins."""
    (length,) = struct.unpack("B", file.read(1))
    name = file.read(length)
    if len(name) != length:
        raise ValueError
    (at,) = struct.unpack("<Q" if version else "<I", file.read(8 if version else 4))
    return name.decode("ascii"), at


def _length(file: BinaryIO, at: int, size: int) -> int:
    """The bases of the record at a place, which must end within the file."""
    file.seek(at)
    (bases,) = _numbers(file, 1)
    for _ in ("stretches of N", "soft-masked stretches"):
        (blocks,) = _numbers(file, 1)
        file.seek(8 * blocks, os.SEEK_CUR)
    if file.tell() + 4 + (bases + 3) // 4 > size:
        raise ValueError
    return bases
