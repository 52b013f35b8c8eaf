"""The .bin/.idx pair in Megatron's format, read in pieces; writer.py writes it.

Why not through megatron-core, whose format this is: its import takes 4 s of every rank's start, its
reader takes a truncated or overlong .bin for a good one, and dropping its object while an array
made from it is alive is a segmentation fault. The layout is 34 bytes of header and three arrays;
the tests read our files with megatron-core and megatron-core's with this module.

    .bin  the tokens of all documents, one after the other, in the dtype the header names
    .idx  b"MMIDIDX\\0\\0", version u64 = 1, dtype code u8, sequences u64, document bounds u64,
          length of each sequence i32, its byte offset i64, first sequence of each document i64 (+
          the end)
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from longseq.errors import UserError

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
DTYPES: dict[int, type[np.generic]] = {
    1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 8: np.uint16,
}  # fmt: skip
# float32 and float64 in Megatron-DeepSpeed, the other way round in megatron-core
FRACTIONS = (6, 7)
SWAPPED = 1 << 56  # version 1, read in the other byte order

Tokens = npt.NDArray[np.integer]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def file_of(prefix: str, kind: str) -> str:
    return f"{prefix}.{kind}"


def token_dtype(vocab_size: int) -> type[np.generic]:
    """The smallest dtype of the format that holds every token of a vocabulary."""
    if vocab_size <= 2**8:
        return np.uint8
    return np.uint16 if vocab_size <= 2**16 else np.int32


class TokenFile:
    """Values of one dtype in a file, read by position. Nothing is mapped."""

    def __init__(self, path: str, dtype: np.dtype[np.generic]) -> None:
        self.bin_path = path
        self.dtype = dtype
        self._file, self.num_bytes = _open(path)

    def read(self, start: int, count: int) -> Tokens:
        """Values start … start+count of the file, [count], in its dtype."""
        size = self.dtype.itemsize
        raw = os.pread(self._file.fileno(), count * size, start * size)
        while len(raw) < count * size:  # one pread gives at most 2 GiB
            more = os.pread(self._file.fileno(), count * size - len(raw), start * size + len(raw))
            if not more:
                raise UserError(f"{self.bin_path} shrank while it was read: prepare it again")
            raw += more
        return np.frombuffer(raw, dtype=self.dtype)

    def close(self) -> None:
        self._file.close()


class IndexedTokens:
    """A checked .bin/.idx pair, read in pieces. Nothing is mapped: memory is what the pieces take.

    document_offsets: int64 [documents + 1], where each document starts in the .bin, in tokens.
    unindexed_ends: the .bin has one token more for each document than its .idx says. Megatron's
    preprocess_data writes such pairs with --append-eod (Megatron-LM's issue 431): its lengths leave
    the end tokens out, so that its own reader shifts document n by n tokens. Here they are counted
    in; who opens such a pair must see that those tokens are ends.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.bin_path = file_of(prefix, "bin")
        self.dtype, lengths, bounds = _read_index(file_of(prefix, "idx"))
        ends = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
        offsets: npt.NDArray[np.int64] = ends[bounds]
        size = self.dtype.itemsize
        with_ends = offsets + np.arange(len(offsets))
        self._tokens = TokenFile(self.bin_path, self.dtype)
        found = self._tokens.num_bytes
        self.unindexed_ends = found == int(with_ends[-1]) * size != int(offsets[-1]) * size
        self.document_offsets = with_ends if self.unindexed_ends else offsets
        self.num_tokens = int(self.document_offsets[-1])
        if found != self.num_tokens * size:
            self.close()
            raise UserError(_wrong_size(self.bin_path, found, self.num_tokens * size))

    @property
    def num_documents(self) -> int:
        return len(self.document_offsets) - 1

    def read(self, start: int, count: int) -> Tokens:
        """Tokens start … start+count of the file, [count], in the file's dtype."""
        return self._tokens.read(start, count)

    def document(self, number: int) -> Tokens:
        """All tokens of one document."""
        start, stop = self.document_offsets[number : number + 2].tolist()
        return self.read(start, stop - start)

    def close(self) -> None:
        self._tokens.close()


def _read_index(path: str) -> tuple[np.dtype[np.generic], Tokens, Tokens]:
    """Dtype, sequence lengths and document bounds of an .idx, each checked against the others."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}: name a prefix made by ./longseq.sh prepare"
        ) from None
    if len(raw) < HEADER.size or not raw.startswith(MAGIC):
        raise UserError(f"{path} is not a Megatron index: prepare the data again")
    _, version, code, sequences, bounds_count = HEADER.unpack_from(raw)
    if version != 1 or code not in DTYPES:
        raise UserError(f"{path} {_unreadable(version, code)}")
    expected = HEADER.size + sequences * 12 + bounds_count * 8
    if len(raw) != expected:
        raise UserError(
            f"{path} is damaged: {len(raw)} bytes where its header says {expected}: prepare the"
            " data again"
        )
    dtype = np.dtype(DTYPES[code])
    lengths = np.frombuffer(raw, "<i4", sequences, HEADER.size)
    pointers = np.frombuffer(raw, "<i8", sequences, HEADER.size + 4 * sequences)
    bounds = np.frombuffer(raw, "<i8", bounds_count, HEADER.size + 12 * sequences)
    ends = np.cumsum(lengths, dtype=np.int64) * dtype.itemsize
    consistent = (
        bool(np.all(lengths >= 0))
        and bool(np.array_equal(pointers[1:], ends[:-1]))
        and (sequences == 0 or int(pointers[0]) == 0)
        and bounds_count > 0
        and int(bounds[0]) == 0
        and int(bounds[-1]) == sequences
        and bool(np.all(np.diff(bounds) >= 0))
    )
    if not consistent:
        raise UserError(
            f"{path} is damaged: its offsets contradict its lengths: prepare the data again"
        )
    return dtype, lengths, bounds


def _unreadable(version: int, code: int) -> str:
    """What is wrong with what a header says, and what to do."""
    if version == SWAPPED:
        return "has its numbers in the other byte order (big-endian): prepare the data again here"
    if version == 1 and code in FRACTIONS:
        return (
            f"says that its tokens are float32 or float64 (dtype code {code}), and they are whole"
            " numbers: write them as int32 or a smaller type"
        )
    return (
        f"has version {version} and dtype code {code}, and version 1 with one of"
        f" {', '.join(map(str, DTYPES))} can be read: prepare the data again"
    )


def _open(path: str) -> tuple[BinaryIO, int]:
    """A file, kept open for as long as its reader lives, and its bytes."""
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}: its .idx is there; prepare the data again"
        ) from None
    return file, os.fstat(file.fileno()).st_size


def _wrong_size(path: str, found: int, expected: int) -> str:
    what = "truncated" if found < expected else "followed by something else"
    return f"{path} is {what}: {found} bytes where its .idx says {expected}: prepare the data again"
