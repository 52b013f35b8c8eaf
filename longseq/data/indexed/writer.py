"""Writes a .bin/.idx pair, and the weights of its tokens beside it, in pieces of any size.

    writer = IndexedWriter(prefix, np.uint8)
    writer.add_documents(tokens, lengths)     # again and again
    writer.finish()

Nothing opens before `finish` has written the .idx, which it does last. Until then PREFIX.lengths
holds the length of each document, so that memory does not grow with them.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from longseq.data.indexed.format import DTYPES, HEADER, MAGIC, Ints, Tokens, file_of
from longseq.data.indexed.growing import GrowingFile, int64_blocks

LONGEST_SEQUENCE = 2**30  # lengths are int32: a longer document is several sequences
WEIGHTS = "weights"
LENGTHS = "lengths"  # int64 [documents], tokens; removed at the end


class IndexedWriter:
    """weighted: a weight is given with every token, one byte each (samples/samples.py).

    sizes: of files that an earlier writer left between two documents, to go on with.
    """

    def __init__(
        self, prefix: str, dtype: type[np.generic], weighted: bool = False,
        sizes: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        self.prefix = prefix
        self.dtype = np.dtype(dtype)
        self.open_length = 0  # tokens of the document that is not ended yet
        self.facts: dict[str, dict[str, Any]] = {}  # of every file, once finished
        endings = ["bin", LENGTHS, *([WEIGHTS] if weighted else [])]
        self.files = {
            ending: GrowingFile(file_of(prefix, ending), (sizes or {}).get(ending, 0))
            for ending in endings
        }

    @property
    def num_tokens(self) -> int:
        return self.files["bin"].size // self.dtype.itemsize

    @property
    def num_documents(self) -> int:
        return self.files[LENGTHS].size // 8

    def add(self, tokens: Tokens, weights: Tokens | None = None) -> None:
        """Append tokens to the document that is open; weights: uint8 [tokens]."""
        self.files["bin"].write(_raw(tokens, self.dtype))
        if WEIGHTS in self.files:
            classes = np.zeros(len(tokens), np.uint8) if weights is None else weights
            self.files[WEIGHTS].write(_raw(classes, np.uint8))
        self.open_length += len(tokens)

    def end_document(self) -> int:
        """End the document that is open; its tokens."""
        length, self.open_length = self.open_length, 0
        self.files[LENGTHS].write(_raw(np.array([length]), "<i8"))
        return length

    def add_documents(self, tokens: Tokens, lengths: Ints, weights: Tokens | None = None) -> Ints:
        """Go on with the open document and end as many as there are lengths, end tokens included.

        What comes after them opens the next document. Returns the whole length of each document
        that was ended.
        """
        open_before, tail = self.open_length, len(tokens) - int(lengths.sum())
        self.add(tokens, weights)
        if not len(lengths):
            return lengths
        ended = lengths.copy()
        ended[0] += open_before
        self.files[LENGTHS].write(_raw(ended, "<i8"))
        self.open_length = tail
        return ended

    def close_document(self, end: int) -> Ints:
        """End the document that is open, if one is, with its end token; its length, [0 or 1]."""
        if not self.open_length:
            return np.zeros(0, np.int64)
        self.add(np.array([end], dtype=self.dtype))
        return np.array([self.end_document()])

    def finish(self) -> None:
        """Flush the tokens to the disk, then write the index."""
        self.write_index()
        os.unlink(file_of(self.prefix, LENGTHS))

    def write_index(self) -> None:
        """`finish`, of which a killed process can do any part again: PREFIX.lengths stays."""
        for ending, file in self.files.items():
            self.facts[ending] = file.finish()
        del self.facts[LENGTHS]
        lengths = file_of(self.prefix, LENGTHS)
        index = GrowingFile(file_of(self.prefix, "idx"))
        documents = self.num_documents
        sequences = sum(int(_sequences(block).sum()) for block in int64_blocks(lengths))
        code = next(code for code, dtype in DTYPES.items() if np.dtype(dtype) == self.dtype)
        index.write(HEADER.pack(MAGIC, 1, code, sequences, documents + 1))
        for block in int64_blocks(lengths):
            index.write(_raw(_cut_up(block), "<i4"))
        for bounds in _starts(lengths, lambda block: _cut_up(block) * self.dtype.itemsize):
            index.write(_raw(bounds[:-1], "<i8"))
        index.write(_raw(np.zeros(1), "<i8"))
        for bounds in _starts(lengths, _sequences):
            index.write(_raw(bounds[1:], "<i8"))
        self.facts["idx"] = index.finish()

    def abandon(self) -> None:
        """Close without an index: what was written does not open."""
        for file in self.files.values():
            file.close()


def _raw(values: npt.NDArray[Any], dtype: npt.DTypeLike) -> memoryview:
    return np.ascontiguousarray(values, dtype=dtype).view(np.uint8).data


def _sequences(lengths: Ints) -> Ints:
    """How many sequences each document is."""
    return np.maximum(1, -(-lengths // LONGEST_SEQUENCE))


def _cut_up(lengths: Ints) -> Ints:
    """The lengths of all sequences of documents of these lengths."""
    counts = _sequences(lengths)
    pieces = np.full(int(counts.sum()), LONGEST_SEQUENCE)
    pieces[np.cumsum(counts) - 1] = lengths - (counts - 1) * LONGEST_SEQUENCE
    return pieces


def _starts(lengths: str, sizes_of: Callable[[Ints], Ints]) -> Iterator[Ints]:
    """Where each of a row of things starts, [n + 1] with the end, block by block."""
    at = 0
    for block in int64_blocks(lengths):
        bounds = np.concatenate(([at], at + np.cumsum(sizes_of(block))))
        at = int(bounds[-1])
        yield bounds
