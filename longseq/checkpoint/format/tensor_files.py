"""Files of tensors in the safetensors format: written in one pass, and nothing to unpickle.

    entry = write(path, [Record("a@0:0", "F32", (2, 3))], chunks)     # size and hashes
    records = read_header(path)                                       # standard library only

The library (github.com/huggingface/safetensors) reads them too; `tensors_of` does with it. It does
not write them: its writer takes no hash while it writes, and says no error number of a full disk.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TypeVar

from longseq.checkpoint.format.manifest import BLOCK, Damaged, Entry
from longseq.host.atomic_files import Sha256, sync_open, tick

T = TypeVar("T")

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1}
LARGEST_HEADER = 1 << 30
FLUSH = 1 << 30  # bytes: a slow disk may take longer for all of a file than anyone waits for a sign

RANDOM = "random"  # the random states of a rank, beside its tensors


@dataclass(frozen=True)
class Record:
    """A tensor in a file, by its name there."""

    key: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        size = SIZES[self.dtype]
        for length in self.shape:
            size *= length
        return size


def header(records: Sequence[Record], metadata: dict[str, str] | None = None) -> bytes:
    """The beginning of a file whose tensors follow in the order of `records`."""
    names: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for record in records:
        end = at + record.bytes
        names[record.key] = {
            "dtype": record.dtype,
            "shape": list(record.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(names, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def in_shards(items: Iterable[T], size: Callable[[T], int], shard_bytes: int) -> list[list[T]]:
    """The items in their order, divided so that a part has at most `shard_bytes`, or one item."""
    shards: list[list[T]] = [[]]
    filled = 0
    for item in items:
        need = size(item)
        if shards[-1] and filled + need > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(item)
        filled += need
    return shards


def write(path: Path, chunks: Iterable[memoryview | bytes]) -> Entry:
    """Write the chunks one after another, flushed to disk; gives the file's size and hashes.

    An OSError names the file, of which nothing is left then.
    """
    hashes = _Hashes()
    try:
        with path.open("wb", buffering=0) as file:
            for chunk in chunks:
                _write_all(file, memoryview(chunk).cast("B"), hashes)
            sync_open(file)
    except BaseException as error:
        path.unlink(missing_ok=True)  # gives the space back to the ranks still writing
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    return hashes.entry()


def _write_all(file: FileIO, view: memoryview, hashes: _Hashes) -> None:
    step = 1 << 22  # so small that a block is hashed while it lies in the processor's cache
    for start in range(0, len(view), step):
        piece = view[start : start + step]
        before = hashes.size // FLUSH
        hashes.take(piece)
        while piece:
            piece = piece[os.write(file.fileno(), piece) :]
            tick()
        if hashes.size // FLUSH > before:
            sync_open(file)


class _Hashes:
    """SHA-256 of each block of what it is given."""

    def __init__(self) -> None:
        self.size, self.done = 0, [Sha256()]

    def take(self, view: memoryview) -> None:
        while view:
            room = BLOCK - self.size % BLOCK
            if self.size and room == BLOCK:
                self.done.append(Sha256())
            self.done[-1].update(view[:room])
            self.size += len(view[:room])
            view = view[room:]

    def entry(self) -> Entry:
        return Entry(self.size, tuple(digest.hexdigest() for digest in self.done))


def read_header(path: Path) -> list[Record]:
    """The tensors in a file; raises Damaged where it is none of this format."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, LARGEST_HEADER):
                raise Damaged(f"{path.name} has a header of {length} bytes")
            names = json.loads(file.read(length))
        names.pop("__metadata__", None)
        records, end = [], 0
        for key, about in names.items():
            record = Record(key, about["dtype"], tuple(int(n) for n in about["shape"]))
            if about["data_offsets"] != [end, end + record.bytes]:
                raise Damaged(f"{path.name}: {key} is not where its shape says")
            end += record.bytes
            records.append(record)
        if size != 8 + length + end:
            raise Damaged(f"{path.name} has {size} bytes and its header says {8 + length + end}")
    except OSError as error:
        raise Damaged(f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise Damaged(f"{path.name} has no header ({type(error).__name__}: {error})") from None
    return records
