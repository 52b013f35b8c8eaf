"""Rows of states in a file, with the names of the records that they are of.

with open_states(Path("genes.npy"), width=512) as output:
    output.add("gene-1", states, last=True)     # [n, 512] float32, all of the record or a part
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from longseq.errors import UserError
from longseq.inference.tables import RowGroups, Tsv, written_aside

States = npt.NDArray[np.float32]
GROUP = 4096  # rows of a parquet file that are written together
RECORDS = {"record": str, "first_row": int, "rows": int}


class Output(ABC):
    """Takes the states of one record after another."""

    @abstractmethod
    def add(self, name: str, states: States, last: bool) -> None:
        """Append rows [n, width] of a record; its last ones, or more will come."""

    @abstractmethod
    def close(self) -> None:
        """All rows are there."""

    @abstractmethod
    def abandon(self) -> None:
        """Close what is open, as an error ended it."""


class Nothing(Output):
    """Where another rank writes."""

    def add(self, name: str, states: States, last: bool) -> None:
        pass

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class Matrix(Output):
    """One .npy [rows, width], whose header is written again at the end, and a table of records."""

    def __init__(self, path: Path, width: int, names: Tsv) -> None:
        self._file, self._names = path.open("wb"), names
        self._rows, self._first, self._width = 0, 0, width
        self._header()

    def _header(self) -> None:
        shape = (self._rows, self._width)
        facts = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, facts)

    def add(self, name: str, states: States, last: bool) -> None:
        self._file.write(states.astype("<f4").tobytes())
        self._rows += len(states)
        if last:
            rows = self._rows - self._first
            self._names.add({"record": [name], "first_row": [self._first], "rows": [rows]})
            self._first = self._rows

    def close(self) -> None:
        self._file.seek(0)
        self._header()
        self._file.close()
        self._names.close()

    def abandon(self) -> None:
        with suppress(OSError):
            self._file.close()


class Parquet(Output):
    """A row a row: the record, which of its rows, and the numbers as a list of fixed length."""

    def __init__(self, path: Path, width: int) -> None:
        import pyarrow as pa

        self._list = pa.list_(pa.float32(), width)
        fields = [("record", pa.string()), ("row", pa.int64()), ("state", self._list)]
        self._groups = RowGroups(path, pa.schema(fields), GROUP)
        self._row = 0

    def add(self, name: str, states: States, last: bool) -> None:
        import pyarrow as pa

        numbers = pa.FixedSizeListArray.from_arrays(pa.array(states.ravel()), type=self._list)
        rows = self._row + np.arange(len(states))
        self._groups.add([pa.array([name] * len(states)), pa.array(rows), numbers])
        self._row = 0 if last else self._row + len(states)

    def close(self) -> None:
        self._groups.close()

    def abandon(self) -> None:
        self._groups.abandon()


def table_beside(path: Path) -> list[Path]:
    """The table of records that a .npy comes with."""
    return [path.with_suffix(".records.tsv")] if path.suffix == ".npy" else []


def check_table(path: Path, beside: list[Path]) -> None:
    """Refuse, before any work, the place of a file that is no such table: nobody named it."""
    head = "\t".join(RECORDS) + "\n"
    for table in beside:
        try:
            with table.open("rb") as file:
                ours = file.read(len(head)) == head.encode()
        except FileNotFoundError:
            continue
        except OSError:
            ours = False
        if not ours:
            raise UserError(
                f"--output {path} would replace {table}, which is no table that embed wrote: name"
                " another"
            )


@contextmanager
def open_states(path: Path | None, width: int) -> Iterator[Output]:
    """A .npy with its table of records, or a .parquet; None: nothing is written."""
    if path is None:
        yield Nothing()
        return
    with written_aside(path) as aside, ExitStack() as stack:
        tables = table_beside(aside)  # from the start, so that both appear at once
        if tables:
            file = stack.enter_context(tables[0].open("w", encoding="utf-8"))
            output: Matrix | Parquet = Matrix(aside, width, Tsv(RECORDS, file))
        else:
            output = Parquet(aside, width)
        try:
            yield output
            output.close()
        except BaseException:
            output.abandon()
            raise
