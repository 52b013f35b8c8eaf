"""Files that grow by whole pieces, each there at once; on a full disk they wait in memory.

    lines = Pieces(path)
    lines.add(b"one more")      # raises Waiting where there is no room: the next call tries again

Nothing that is half written stays.
"""

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from longseq.host.atomic_files import NO_ROOM


class Waiting(Exception):
    """There is no room on the disk; what was to be written waits in memory."""


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Waiting in place of a full disk's OSError."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise Waiting(f"{path}: no space left, its records wait in memory for room") from None


class Pieces:
    """A file that grows by whole pieces, each there at once; without room they wait."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.waiting: deque[bytes] = deque()
        self._file: BinaryIO | None = None

    def add(self, piece: bytes) -> None:
        """Append a piece, after those that wait. Raises Waiting."""
        self.waiting.append(piece)
        self.put()

    def put(self) -> None:
        """Make the file, and append what waits. Raises Waiting where there is still no room."""
        with room_for(self.path):
            if self._file is None:
                self._file = self.path.open("ab", buffering=0)
            while self.waiting:
                self._write(self._file, self.waiting[0])
                self.waiting.popleft()

    def _write(self, file: BinaryIO, piece: bytes) -> None:
        before, written = os.fstat(file.fileno()).st_size, 0
        try:
            while written < len(piece):  # what follows a part of it says why it was no more
                written += file.write(piece[written:])
        finally:
            if written < len(piece):
                file.truncate(before)

    def close(self) -> None:
        """Let go of the file; a later piece opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = None
