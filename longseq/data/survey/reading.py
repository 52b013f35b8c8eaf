"""Every record of the inputs, for what looks at them before they are prepared."""

from collections.abc import Callable, Iterator
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
    annotated: whether its file has features of it that are wanted.
    """

    file: int
    number: int
    path: str
    kind: str
    name: str
    parts: Iterator[bytes]
    annotated: bool = False


# Whether a record will make no document; UserError where something is wrong with it
Check = Callable[[RawRecord, bytes], bool]


def read_all(
    paths: tuple[str, ...], columns: Columns, scratch: str, skip_bad: bool,
    report: Callable[[int], None], digests: dict[int, str], features: tuple[str, ...] = (),
) -> Iterator[RawRecord]:  # fmt: skip
    """Records in their order. scratch: where a copy may lie of what libraries read by name.

    skip_bad: go on after a file that cannot be read; its records up to there were given. digests:
    gets each file's, by its place; "" for a bad one, which is what the caller may say of one, too,
    and such a one is not read again. features: which are wanted of files that hold annotation.
    """
    done = 0
    for file, path in enumerate(paths):
        if digests.get(file) == "":
            continue
        try:
            with open_source(path) as source:
                tell = partial(_tell, report, done)
                yield from _of_file(file, source, columns, scratch, tell, features)
                done += source.bytes_done
                digests.setdefault(file, source.meter.hexdigest())
        except UserError:
            if not skip_bad:
                raise
            digests[file] = ""


def _of_file(
    file: int, source: Source, columns: Columns, scratch: str, tell: Callable[[Source], None],
    features: tuple[str, ...],
) -> Iterator[RawRecord]:  # fmt: skip
    number = 0
    for piece in pieces(source, PIECE, columns, scratch):
        for name, parts, annotated in _parts(piece, features):
            tell(source)
            told = _told(parts, source, tell)
            yield RawRecord(file, number, source.path, source.kind, name, told, annotated)
            number += 1


def _tell(report: Callable[[int], None], before: int, source: Source) -> None:
    report(before + source.bytes_done)


def _told(
    parts: Iterator[bytes], source: Source, tell: Callable[[Source], None]
) -> Iterator[bytes]:
    """A record may be most of a file."""
    for part in parts:
        tell(source)
        yield part


def _parts(piece: Piece, features: tuple[str, ...]) -> Iterator[tuple[str, Iterator[bytes], bool]]:
    if isinstance(piece, LongRecord):
        yield piece.name, piece.pieces, False
        return
    for record in records(piece, features):
        yield record.name, iter([record.content]), bool(record.features)
