"""PREFIX.records.tsv: the name of each record, the file it came from, its bases and its documents.

    documents  bases    file                 name                               facts
    1          4938920  genomes/536.gbk      NC_008253.1                        {"organism": …}

facts is JSON of what the file says of the record, or nothing. Written as records come, read where a
record is asked for by name.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from longseq.errors import UserError

ENDING = "records.tsv"
HEADERS = ("documents\tbases\tfile\tname\tfacts\n", "documents\tbases\tfile\tname\n")


@dataclass(frozen=True)
class Record:
    """documents: how many of the data's, one after the other, came from it."""

    documents: int
    bases: int
    file: str
    name: str
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """What it may be called."""
        return names_of(self.name, self.file)


def names_of(name: str, file: str) -> set[str]:
    """What a record may be called: its header line, the line's first word, its file with or without
    folders.
    """
    return {name, name.split(" ")[0], file, file.rpartition("/")[2]} - {""}


def record_rows(
    path: str, names: list[str], sizes: list[int], documents: list[int], facts: list[str]
) -> bytes:
    """Rows of the table for records of a file: names, bases, documents and facts of each; facts may
    be [], where nothing is known.
    """
    rows = zip(documents, sizes, names, facts or [""] * len(names), strict=True)
    line = f"%d\t%d\t{path.replace('%', '%%')}\t%s\t%s\n"
    text = line * len(names) % tuple(chain.from_iterable(rows))  # half the time of a line at a time
    return text.encode("utf-8", "replace")


def read_records(prefix: str) -> Iterator[Record]:
    """All records of prepared data, in their order."""
    path = f"{prefix}.{ENDING}"
    try:
        with open(path, encoding="utf-8") as file:
            if file.readline() not in HEADERS:
                raise UserError(f"{path} is not a table of records: prepare the data again")
            for line in file:
                documents, bases, name_of_file, name, *facts = line.rstrip("\n").split("\t")
                known = json.loads(facts[0]) if facts and facts[0] else {}
                yield Record(int(documents), int(bases), name_of_file, name, known)
    except OSError:
        raise UserError(
            f"{prefix} does not say what its records are called: prepare the data again"
        ) from None
    except ValueError:
        raise UserError(f"{path} is damaged: prepare the data again") from None
