"""Every record of the inputs, for what looks at them before they are prepared."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial

from longseq.data.sources.chunks import pieces
from longseq.data.sources.inputs import Source, open_source
from longseq.data.sources.pieces import LongRecord, Piece
from longseq.data.sources.records import records
from longseq.data.sources.tables import Columns
from longseq.errors import UserError

PIECE = 1 << 18  # bytes read at a time


@dataclass(frozen=True)
class RawRecord:
    """file, number: its file's place among the inputs and its own in the file. kind: of the file.

    parts: its letters as stored, with line ends; to be read before the next record is.
    """

    file: int
    number: int
    path: str
    kind: str
    name: str
    parts: Iterator[bytes]


def read_all(
    paths: tuple[str, ...], columns: Columns, scratch: str, skip_bad: bool,
    report: Callable[[int], None], bad: set[int],
) -> Iterator[RawRecord]:  # fmt: skip
    """Records in their order. scratch: where a copy may lie of what libraries read by name.

    skip_bad: go on after a file that cannot be read, and add its place to `bad`; its records up to
    there were given.
    """
    done = 0
    for file, path in enumerate(paths):
        try:
            tell = partial(_tell, report, done)
            done += yield from _of_file(file, path, columns, scratch, tell)
        except UserError:
            if not skip_bad:
                raise
            bad.add(file)


def _of_file(
    file: int, path: str, columns: Columns, scratch: str, tell: Callable[[Source], None]
) -> Generator[RawRecord, None, int]:
    """Its records, and at the end its bytes."""
    number = 0
    with open_source(path) as source:
        for piece in pieces(source, PIECE, columns, scratch):
            for name, parts in _parts(piece):
                tell(source)
                told = _told(parts, source, tell)
                yield RawRecord(file, number, source.path, source.kind, name, told)
                number += 1
        return source.bytes_done


def _tell(report: Callable[[int], None], before: int, source: Source) -> None:
    report(before + source.bytes_done)


def _told(
    parts: Iterator[bytes], source: Source, tell: Callable[[Source], None]
) -> Iterator[bytes]:
    """A record may be most of a file."""
    for part in parts:
        tell(source)
        yield part


def _parts(piece: Piece) -> Iterator[tuple[str, Iterator[bytes]]]:
    if isinstance(piece, LongRecord):
        yield piece.name, piece.pieces
        return
    for record in records(piece):
        yield record.name, iter([record.content])
