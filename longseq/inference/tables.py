"""What is written, whole or not there: TSV to the screen, or TSV, parquet or .npy to a file.

    with open_table(path, {"record": str, "log_likelihood": float}) as table:
        table.add({"record": names, "log_likelihood": numbers})

A file is written aside and takes its place at the end. In a .npy the last column stands alone.
"""

from __future__ import annotations

import os
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from longseq.host.atomic_files import lost, make_aside, publish_files, sync, unwritable

Columns = Mapping[str, type]  # names → str, int or float
SUFFIXES = (".tsv", ".parquet", ".npy")
KEPT = 1 << 16  # rows that wait for a group of a parquet file


class Table(ABC):
    """Rows by columns, added some at a time."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    @abstractmethod
    def add(self, rows: Mapping[str, Sequence[Any]]) -> None:
        """Append rows: for each column as many values."""

    @abstractmethod
    def close(self) -> None:
        """All rows are there."""

    def abandon(self) -> None:
        """An error has ended it: close what is open."""
        self.columns = {}


class Nothing(Table):
    """Where another rank writes, or nothing was asked for."""

    def add(self, rows: Mapping[str, Sequence[Any]]) -> None:
        pass

    def close(self) -> None:
        pass


class Tsv(Table):
    """A line a row; floats with 6 decimals."""

    def __init__(self, columns: Columns, file: IO[str]) -> None:
        super().__init__(columns)
        self._file = file
        self._header = "\t".join(columns) + "\n"
        self._form = "\t".join({float: "%.6f", int: "%d", str: "%s"}[c] for c in columns.values())

    def _begin(self) -> None:
        """The header, with the first row: where that is refused, nothing is on the screen."""
        self._file.write(self._header)
        self._header = ""

    def add(self, rows: Mapping[str, Sequence[Any]]) -> None:
        lines = zip(*(rows[name] for name in self.columns), strict=True)
        self._begin()
        self._file.writelines(self._form % line + "\n" for line in lines)

    def close(self) -> None:
        self._begin()
        self._file.flush()


class RowGroups:
    """A parquet file by pyarrow, written in groups of at least `rows` rows."""

    def __init__(self, path: Path, schema: Any, rows: int) -> None:
        import pyarrow.parquet as pq

        self.schema, self._rows = schema, rows
        self._writer = pq.ParquetWriter(path, schema)
        self._waiting: list[Any] = []

    def add(self, columns: Any) -> None:
        """Append rows: columns as pyarrow.table takes them."""
        import pyarrow as pa

        self._waiting.append(pa.table(columns, schema=self.schema))
        if sum(len(one) for one in self._waiting) >= self._rows:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting = []

    def close(self) -> None:
        self._write()
        self._writer.close()

    def abandon(self) -> None:
        """Close the file, which on a full disk fails as well and would say so later."""
        with suppress(OSError, ValueError):
            self._writer.close()


class Parquet(Table):
    """A column a column."""

    def __init__(self, columns: Columns, path: Path) -> None:
        import pyarrow as pa

        super().__init__(columns)
        types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
        self._groups = RowGroups(path, schema, KEPT)

    def add(self, rows: Mapping[str, Sequence[Any]]) -> None:
        self._groups.add(dict(rows))

    def close(self) -> None:
        self._groups.close()

    def abandon(self) -> None:
        self._groups.abandon()


class Npy(Table):
    """The last column as float32 [rows]; numpy leaves room in the header for their number."""

    def __init__(self, columns: Columns, path: Path) -> None:
        super().__init__(columns)
        self._name = list(columns)[-1]
        self._file = path.open("wb")
        self._rows = 0
        self._header()

    def _header(self) -> None:
        facts = {"descr": "<f4", "fortran_order": False, "shape": (self._rows,)}
        np.lib.format.write_array_header_1_0(self._file, facts)

    def add(self, rows: Mapping[str, Sequence[Any]]) -> None:
        numbers = np.asarray(rows[self._name], dtype="<f4")
        self._file.write(numbers.tobytes())
        self._rows += len(numbers)

    def close(self) -> None:
        self._file.seek(0)
        self._header()
        self._file.close()

    def abandon(self) -> None:
        with suppress(OSError):
            self._file.close()


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to; it becomes `path` at the end, or is gone after an error.

    Raises UserError where the disk says no.
    """
    aside = make_aside(path)
    try:
        yield aside / path.name
        sync(aside / path.name)
        publish_files(aside, path.parent, os.listdir(aside), path.name)
        aside.rmdir()
    except OSError as error:
        raise unwritable(f"{path} cannot be written: {lost(error, aside)}", error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def open_table(path: Path | None, columns: Columns) -> Iterator[Table]:
    """A table in the file `path`, in the format of its name; None: TSV on the screen."""
    table: Table
    if path is None:
        table = Tsv(columns, sys.stdout)
        yield table
        table.close()
        return
    with written_aside(path) as aside:
        if path.suffix == ".tsv":
            with aside.open("w", encoding="utf-8") as file:
                table = Tsv(columns, file)
                yield table
                table.close()
            return
        table = Parquet(columns, aside) if path.suffix == ".parquet" else Npy(columns, aside)
        try:
            yield table
            table.close()
        except BaseException:
            table.abandon()
            raise
