"""Writes a .bin/.idx pair, and the weights of its tokens beside it, in pieces of any size.

    writer = IndexedWriter(prefix, np.uint8)
    writer.add_documents(tokens, lengths)     # again and again
    writer.finish()

Nothing opens before `finish` has written the .idx, which it does last. `mark` and `rollback` take
back what a file brought that turned out to be bad.
"""

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from longseq.data.indexed.format import DTYPES, HEADER, MAGIC, Tokens, file_of
from longseq.host.atomic_files import Sha256, digest, sync_open

LONGEST_SEQUENCE = 2**30  # lengths are int32: a longer document is several sequences
WEIGHTS = "weights"

Ints = npt.NDArray[np.int64]


class _Output:
    """A file that is appended to and digested as it grows."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file = open(path, "wb")  # noqa: SIM115 - closed by finish or abandon
        self.sha = Sha256()

    def write(self, raw: memoryview) -> None:
        self.file.write(raw)
        self.sha.update(raw)

    def cut(self, size: int, sha: Any) -> None:
        """Go back to an earlier size, of which `sha` is the digest so far."""
        self.file.flush()
        self.file.truncate(size)
        self.file.seek(size)
        self.sha = sha


@dataclass(frozen=True)
class Mark:
    """How far a writer was between two documents."""

    num_tokens: int
    sequences: int
    documents: int
    digests: tuple[Any, ...]


class IndexedWriter:
    """weighted: a weight is given with every token, one byte each (samples/samples.py)."""

    def __init__(self, prefix: str, dtype: type[np.generic], weighted: bool = False) -> None:
        self.prefix = prefix
        self.dtype = np.dtype(dtype)
        self.num_tokens = 0
        self.digests: dict[str, str] = {}
        self.lengths = array("i")
        self.bounds = array("q", [0])
        self.open_length = 0  # tokens of the document that is not ended yet
        self._bin = _Output(file_of(prefix, "bin"))
        self._weights = _Output(file_of(prefix, WEIGHTS)) if weighted else None

    @property
    def num_documents(self) -> int:
        return len(self.bounds) - 1

    def add(self, tokens: Tokens, weights: Tokens | None = None) -> None:
        """Append tokens to the document that is open; weights: uint8 [tokens]."""
        self._bin.write(np.ascontiguousarray(tokens, dtype=self.dtype).data)
        if self._weights is not None:
            classes = np.zeros(len(tokens), np.uint8) if weights is None else weights
            self._weights.write(np.ascontiguousarray(classes, dtype=np.uint8).data)
        self.open_length += len(tokens)
        self.num_tokens += len(tokens)

    def end_document(self) -> int:
        """End the document that is open; its tokens."""
        length = self.open_length
        while self.open_length > LONGEST_SEQUENCE:
            self.lengths.append(LONGEST_SEQUENCE)
            self.open_length -= LONGEST_SEQUENCE
        self.lengths.append(self.open_length)
        self.open_length = 0
        self.bounds.append(len(self.lengths))
        return length

    def add_documents(self, tokens: Tokens, lengths: Ints, weights: Tokens | None = None) -> Ints:
        """Go on with the open document and end as many as there are lengths, end tokens included.

        What comes after them opens the next document. An end token alone makes no document. Returns
        the whole length of each document that was ended.
        """
        if len(lengths) and lengths[0] == 1 and not self.open_length:
            tokens, lengths = tokens[1:], lengths[1:]
            weights = None if weights is None else weights[1:]
        open_before, tail = self.open_length, len(tokens) - int(lengths.sum())
        self.add(tokens, weights)
        if not len(lengths):
            return lengths
        ended = lengths.copy()
        ended[0] += open_before
        self.open_length = int(ended[0])
        self.end_document()
        first = len(self.lengths)
        self.lengths.frombytes(lengths[1:].astype(np.intc).tobytes())
        self.bounds.extend(range(first + 1, len(self.lengths) + 1))
        self.open_length = tail
        return ended

    def close_document(self, end: int) -> Ints:
        """End the document that is open, if one is, with its end token; its length, [0 or 1]."""
        if not self.open_length:
            return np.zeros(0, np.int64)
        self.add(np.array([end], dtype=self.dtype))
        return np.array([self.end_document()])

    def mark(self) -> Mark:
        """This place, to come back to."""
        digests = tuple(output.sha.copy() for output in self._outputs)
        return Mark(self.num_tokens, len(self.lengths), len(self.bounds), digests)

    def rollback(self, mark: Mark) -> None:
        """Forget everything that came after a mark."""
        self.num_tokens, self.open_length = mark.num_tokens, 0
        del self.lengths[mark.sequences :]
        del self.bounds[mark.documents :]
        for output, sha in zip(self._outputs, mark.digests, strict=True):
            size = self.dtype.itemsize if output is self._bin else 1
            output.cut(mark.num_tokens * size, sha.copy())

    def finish(self) -> None:
        """Flush the tokens to the disk, then write the index."""
        for output in self._outputs:
            sync_open(output.file)
            output.file.close()
            self.digests[output.path.rpartition(".")[2]] = output.sha.hexdigest()
        lengths = np.frombuffer(self.lengths, dtype="<i4") if self.lengths else np.zeros(0, "<i4")
        ends = np.cumsum(lengths, dtype=np.int64) * self.dtype.itemsize
        pointers = np.concatenate(([0], ends[:-1])) if len(ends) else ends
        code = next(code for code, dtype in DTYPES.items() if np.dtype(dtype) == self.dtype)
        raw = b"".join((
            HEADER.pack(MAGIC, 1, code, len(lengths), len(self.bounds)),
            lengths.tobytes(), pointers.astype("<i8").tobytes(), self.bounds.tobytes(),
        ))  # fmt: skip
        with open(file_of(self.prefix, "idx"), "wb") as file:
            file.write(raw)
            sync_open(file)
        self.digests["idx"] = digest(file_of(self.prefix, "idx"))

    def abandon(self) -> None:
        """Close without an index: what was written does not open."""
        for output in self._outputs:
            output.file.close()

    @property
    def _outputs(self) -> list[_Output]:
        return [self._bin] if self._weights is None else [self._bin, self._weights]
