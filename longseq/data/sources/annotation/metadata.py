"""A table beside the sequences that says what they are: --metadata TABLE.tsv."""

import csv
import io
import json
import os

from longseq.data.sources.inputs import open_source
from longseq.data.sources.names import printable
from longseq.errors import UserError


class Metadata:
    """The rows of a table by the record or the file that their first column names.

    Separated by TABs, or by commas where the first line has no TAB; the first line has the names.
    """

    def __init__(self, path: str) -> None:
        with open_source(path, kind="metadata") as source:
            raw = b"".join(iter(lambda: source.read(1 << 20), b""))
            self.source = source.facts()
        shown = self.source["path"]
        text = raw.decode("utf-8-sig", "replace")
        separator = "\t" if "\t" in text.partition("\n")[0] else ","
        lines = csv.reader(io.StringIO(text), delimiter=separator)
        try:
            header, *rows = list(lines) or [[]]
        except csv.Error as error:
            raise UserError(
                f"{shown}: line {lines.line_num:,} is none of a table: {error}"
            ) from None
        if len(header) < 2:
            raise UserError(f"{shown}: its first line names no column beside the sequences' names")
        self._rows: dict[str, dict[str, str]] = {}
        self._used: set[str] = set()  # since the mark
        self._used_before: set[str] = set()
        for number, row in enumerate(rows, 2):
            if not row:
                continue
            if len(row) != len(header):
                raise UserError(
                    f"{shown}: line {number:,} has {len(row)} columns, its first line {len(header)}"
                )
            if row[0] in self._rows:
                raise UserError(f"{shown}: two lines are about {printable(row[0])}: keep one")
            pairs = zip(header[1:], row[1:], strict=True)
            self._rows[row[0]] = {key: printable(value) for key, value in pairs if value}

    @property
    def unused(self) -> int:
        """Rows that no record or file is called."""
        return len(self._rows) - len(self._used | self._used_before)

    def mark(self) -> None:
        """What was used so far was."""
        self._used_before |= self._used
        self._used = set()

    def rollback(self) -> None:
        """What was used since the mark was not."""
        self._used = set()

    def of(self, path: str, name: str) -> dict[str, str]:
        """What the table says of a record, of its name's first word, or of its file."""
        for key in (name, name.split(" ")[0], path, os.path.basename(path)):
            if key in self._rows:
                self._used.add(key)
                return self._rows[key]
        return {}

    def added(self, own: str, path: str, name: str) -> str:
        """JSON of what a file says of a record, with what the table says beside it, which counts
        more.
        """
        more = self.of(path, name)
        if not more:
            return own
        return json.dumps({**(json.loads(own) if own else {}), **more}, ensure_ascii=False)
