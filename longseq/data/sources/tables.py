"""Parquet and Arrow files (those of Hugging Face datasets too) → records, a row each, by pyarrow.

Rows come in batches of bounded memory; of a file with many columns only those asked for are read.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from longseq.data.sources.inputs import Source
from longseq.data.sources.names import printable
from longseq.data.sources.pieces import Piece, Record, gathered
from longseq.errors import UserError
from longseq.host.atomic_files import NO_ROOM

BUFFER = 1 << 20
KINDS = ("parquet", "arrow", "arrow stream")
REPEATED = 256  # rows at a time where a value that comes often is stored once: of unknown size
STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"


@dataclass(frozen=True)
class Columns:
    """What to read of a table. sequence: "" for the only column of strings there is; facts: columns
    that are kept as what is known of a record, where a table has them.
    """

    sequence: str = ""
    name: str = ""
    facts: tuple[str, ...] = ()


def table_pieces(source: Source, size: int, columns: Columns, scratch: str) -> Iterator[Piece]:
    """A table's rows in order; scratch: where a copy may lie of what is not a file here."""
    return gathered(_rows(source, size, columns, scratch), "table", source.path, size)


def _rows(source: Source, size: int, columns: Columns, scratch: str) -> Iterator[Record]:
    try:
        if source.kind == "parquet":
            yield from _parquet(source, size, columns, scratch)
        elif source.kind == "arrow":
            yield from _arrow_file(source, columns, scratch)
        else:
            yield from _arrow_stream(source, columns)
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:  # of the copy
            raise
        what = "parquet" if source.kind == "parquet" else "Arrow"
        raise UserError(
            f"{source.path} is not {what}, or is damaged or cut off"
            f" ({printable(str(error).partition('. ')[0])[:100]})"
        ) from None


def _parquet(source: Source, size: int, columns: Columns, scratch: str) -> Iterator[Record]:
    import pyarrow.parquet as parquet

    options = {"buffer_size": BUFFER, "pre_buffer": False}  # else all of a group is read at once
    with source.local(scratch) as path, parquet.ParquetFile(path, **options) as file:
        chosen = _choose(source.path, file.schema_arrow, columns)
        rows_done, all_rows = 0, max(1, file.metadata.num_rows)
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            read = list(filter(None, chosen))
            for batch in file.iter_batches(_rows_of(group, chosen[0], size), [number], read):
                yield from _records(batch, chosen)
                rows_done += batch.num_rows
                source.part = rows_done / all_rows


def _rows_of(group: Any, name: str, size: int) -> int:
    """How many rows of a group have some `size` bytes in the column of this name."""
    stored = map(group.column, range(group.num_columns))  # those of a struct are columns as well
    column = next(one for one in stored if one.path_in_schema == name)
    rows = size // max(1, column.total_uncompressed_size // max(1, group.num_rows))
    return max(1, min(rows, REPEATED) if column.has_dictionary_page else rows)


def _arrow_file(source: Source, columns: Columns, scratch: str) -> Iterator[Record]:
    import pyarrow

    with source.local(scratch) as path, pyarrow.OSFile(path) as raw:
        reader = pyarrow.ipc.open_file(raw)
        chosen = _choose(source.path, reader.schema, columns)
        for number in range(reader.num_record_batches):
            yield from _records(reader.get_batch(number), chosen)
            source.part = (number + 1) / reader.num_record_batches


def _arrow_stream(source: Source, columns: Columns) -> Iterator[Record]:
    """What Hugging Face's datasets keep; its end is marked, else a cut one would pass."""
    import pyarrow

    ended = _Ended(source)
    reader = pyarrow.ipc.open_stream(pyarrow.PythonFile(ended, "r"))
    chosen = _choose(source.path, reader.schema, columns)
    for batch in reader:
        yield from _records(batch, chosen)
    if ended.last != STREAM_END:
        raise UserError(f"{source.path} is cut off: its end mark is missing: fetch it again")
    if source.read(1):
        raise UserError(
            f"{source.path} goes on behind its end mark: give each table as its own file"
        )


class _Ended:
    """A stream that remembers its last eight bytes."""

    closed = False

    def __init__(self, source: Source) -> None:
        self._source = source
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.last = (self.last + data[-8:])[-8:]
        return data

    def close(self) -> None:
        self.closed = True


def _choose(path: str, schema: Any, columns: Columns) -> list[str]:
    """The columns to read: the sequence's, the name's (or ""), those of facts."""
    for flag, wanted in (("--column", columns.sequence), ("--name-column", columns.name)):
        if wanted and schema.names.count(wanted) != 1:
            raise UserError(
                f"{path}: {flag} {wanted}: no such column: there are {_some(schema.names)}"
            )
    strings = [field.name for field in schema if _holds_letters(field.type)]
    if columns.sequence:
        if columns.sequence not in strings:
            raise UserError(f"{path}: --column {columns.sequence} holds no strings")
        return [columns.sequence, columns.name, *_facts(schema, columns)]
    strings = [name for name in strings if name not in (columns.name, *columns.facts)]
    if len(strings) != 1:
        some = f"{len(strings)} columns hold strings ({_some(strings)})"
        raise UserError(
            f"{path}: {some if strings else 'no column holds strings'}: say which with --column"
        )
    return [strings[0], columns.name, *_facts(schema, columns)]


def _facts(schema: Any, columns: Columns) -> list[str]:
    return [name for name in columns.facts if schema.names.count(name) == 1]


def _some(names: list[str]) -> str:
    return printable(", ".join(names[:8]) + (", …" if len(names) > 8 else ""))


def _holds_letters(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    tests = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(test(kind) for test in tests) or types.is_string_view(kind)


def _records(batch: Any, chosen: list[str]) -> Iterator[Record]:
    """The rows of one batch; one without a value is an empty record."""
    names = batch.column(chosen[1]) if chosen[1] else None
    facts = [(key, batch.column(key)) for key in chosen[2:]]
    for row, content in enumerate(_contents(batch.column(chosen[0]))):
        name = "" if names is None else _text(names[row])
        known = {key: _text(column[row]) for key, column in facts}
        told = json.dumps(known, ensure_ascii=False) if known else ""
        yield Record(name, content, told)


def _contents(column: Any) -> Iterator[bytes]:
    """The letters of each row; a dictionary's stay there once, however many rows have them."""
    import pyarrow

    places: Any = range(len(column))
    if pyarrow.types.is_dictionary(column.type):
        column, places = column.dictionary, column.indices.to_pylist()
    letters = column.cast(pyarrow.large_binary())
    for place in places:
        yield (letters[place].as_py() if place is not None else b"") or b""


def _text(value: Any) -> str:
    """A cell as it may be shown, "" where it is empty."""
    said = value.as_py()
    if isinstance(said, bytes):
        said = said.decode("utf-8", "replace")
    return "" if said is None else printable(str(said))
