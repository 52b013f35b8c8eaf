"""A table beside the sequences that says what they are: --metadata TABLE.tsv."""

import csv
import io
import json
import os
from collections.abc import Iterator

from longseq.data.sources.inputs import open_source
from longseq.data.sources.names import first_word, printable
from longseq.errors import UserError

TAB = "\t"


class Metadata:
    """The rows of a table by the record or the file that their first column names.

    Separated by TABs, or by commas where the first line has no TAB; the first line has the names.
    What stands in quotes may hold them, and line breaks between commas.
    """

    def __init__(self, path: str) -> None:
        with open_source(path, kind="metadata") as source:
            raw = b"".join(iter(lambda: source.read(1 << 20), b""))
            self.source = source.facts()
        shown = self.source["path"]
        text = raw.decode("utf-8-sig", "replace")
        separator = TAB if TAB in text.partition("\n")[0] else ","
        (_, header), *rows = _rows(shown, text, separator)
        if len(header) < 2:
            raise UserError(f"{shown}: its first line names no column beside the sequences' names")
        self._rows: dict[str, dict[str, str]] = {}
        self._used: set[str] = set()  # since the mark
        self._used_before: set[str] = set()
        for number, row in rows:
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
        for key in (name, first_word(name), path, os.path.basename(path)):
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


def _rows(path: str, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Each row and the line where it begins. A quote that is not closed swallows those behind it,
    to the end or to the next quote: between TABs, where a value has no line break, it is told.
    """
    lines = [*io.StringIO(text), ""]  # the last one is in a row only if a quote is open there
    reader = csv.reader(lines, delimiter=separator)
    begin = 1
    try:
        for row in reader:
            end = reader.line_num
            if end > begin and (separator == TAB or end == len(lines)):
                where = (
                    " there (no value has a line break between TABs)" if separator == TAB else ""
                )
                raise UserError(
                    f"{path}: line {begin:,} opens a quote that is not closed{where}: close it, or"
                    " take it away"
                )
            yield begin, row
            begin = end + 1
    except csv.Error as error:
        raise UserError(
            f"{path}: line {begin:,} is none of a table: {printable(str(error))}"
            " (is a quote in it not closed?)"
        ) from None
