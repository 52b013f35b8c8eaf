"""A file that grows at its end, is digested as it grows, and can be taken back to an earlier size.

What a preparation writes are such files, so that its memory does not grow with them, a bad file can
be taken back, and a killed preparation goes on from the sizes it had at a good place.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from longseq.host.atomic_files import BLOCK, Sha256, sync_open

Raw = bytes | memoryview


@dataclass(frozen=True)
class Place:
    """A size to go back to, and the digest so far; None: it is digested again."""

    size: int
    sha: Any = None


class GrowingFile:
    """size: go on from there with a file that an earlier process left."""

    def __init__(self, path: str, size: int = 0) -> None:
        self.path = path
        self.size = 0
        self._file = open(path, "r+b" if size else "w+b")  # noqa: SIM115 - closed by close()
        self._sha: Any = Sha256()
        if size:
            self.cut(Place(size))

    def write(self, raw: Raw) -> None:
        self._file.write(raw)
        self._sha.update(raw)
        self.size += len(raw)

    def place(self) -> Place:
        return Place(self.size, self._sha.copy())

    def cut(self, place: Place) -> None:
        """Forget what came after a place."""
        self._file.flush()
        self._file.truncate(place.size)
        self._sha = place.sha.copy() if place.sha else self._digest_of(place.size)
        self._file.seek(place.size)
        self.size = place.size

    def _digest_of(self, size: int) -> Any:
        sha = Sha256()
        self._file.seek(0)
        while size and (block := self._file.read(min(BLOCK, size))):
            sha.update(block)
            size -= len(block)
        return sha

    def sync(self) -> None:
        if not self._file.closed:  # what is finished is on the disk
            sync_open(self._file)

    def close(self) -> None:
        self._file.close()

    def finish(self) -> dict[str, Any]:
        """Flush it to the disk and close it; its facts, as a manifest has them."""
        self.sync()
        self.close()
        return {"bytes": self.size, "sha256": self._sha.hexdigest()}


def int64_blocks(path: str, values: int = 1 << 16) -> Iterator[npt.NDArray[np.int64]]:
    """A file of int64, so many of them at a time."""
    with open(path, "rb") as file:
        while raw := file.read(8 * values):
            yield np.frombuffer(raw, "<i8").astype(np.int64, copy=False)
