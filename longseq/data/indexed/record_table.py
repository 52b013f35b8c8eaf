"""PREFIX.records.tsv: the name of each record, the file it came from, its bases and its documents.

    documents  bases    file                 name
    1          4938920  genomes/536.fna      NC_008253.1 Escherichia coli 536

Written as records come, read where a record is asked for by name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

from longseq.errors import UserError

ENDING = "records.tsv"
HEADER = "documents\tbases\tfile\tname\n"


@dataclass(frozen=True)
class Record:
    """documents: how many of the data's, one after the other, came from it."""

    documents: int
    bases: int
    file: str
    name: str

    @property
    def names(self) -> set[str]:
        """What it may be called: its header line, the line's first word, its file with or without
        folders.
        """
        return {self.name, self.name.split(" ")[0], self.file, self.file.rpartition("/")[2]} - {""}


def write_records(
    file: TextIO, path: str, names: list[str], sizes: list[int], documents: list[int]
) -> None:
    """Append the records of a file: names, bases and documents of each."""
    rows = zip(documents, sizes, names, strict=True)
    file.write("".join([f"{count}\t{bases}\t{path}\t{name}\n" for count, bases, name in rows]))


def read_records(prefix: str) -> Iterator[Record]:
    """All records of prepared data, in their order."""
    path = f"{prefix}.{ENDING}"
    try:
        with open(path, encoding="utf-8") as file:
            if file.readline() != HEADER:
                raise UserError(f"{path} is not a table of records: prepare the data again")
            for line in file:
                documents, bases, name_of_file, name = line.rstrip("\n").split("\t", 3)
                yield Record(int(documents), int(bases), name_of_file, name)
    except OSError:
        raise UserError(
            f"{prefix} does not say what its records are called: prepare the data again"
        ) from None
    except ValueError:
        raise UserError(f"{path} is damaged: prepare the data again") from None
