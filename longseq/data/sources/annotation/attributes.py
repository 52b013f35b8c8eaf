"""The ninth columns of GFF3 and GTF: each line read by its format, whatever others look like."""

import re
from urllib.parse import unquote

Attributes = dict[str, list[str]]  # each key with its values

# key "value"; what a value in quotes holds, up to the quote that ends it, means nothing
ATTRIBUTE = re.compile(r'\s*([^\s;"]+)(?:\s+(?:"(.*?)"\s*(?=;|$)|([^;]*)))?\s*(?:;|$)')
QUOTED = re.compile(r'"[^"]*"')


class Reader:
    """The columns of one file; gtf: what it is, settled by the first line that says anything."""

    def __init__(self) -> None:
        self.gtf: bool | None = None

    def read(self, column: str) -> Attributes:
        """What a line says of its feature."""
        text = column.strip()
        if self.gtf is None and text not in ("", "."):
            self.gtf = is_gtf(text)
        return gtf_attributes(text) if self.gtf else gff3_attributes(text)


def is_gtf(text: str) -> bool:
    """Whether attributes are `key "value"`, not GFF3's `key=value`."""
    return "=" not in QUOTED.sub("", text).lstrip("; ").partition(";")[0]


def gtf_attributes(text: str) -> Attributes:
    """One that stands there twice has both values."""
    found: Attributes = {}
    for key, quoted, bare in ATTRIBUTE.findall(text):
        value = quoted or bare.strip().strip('"')
        found.setdefault(key, []).extend([value] if value else [])
    return found


def gff3_attributes(text: str) -> Attributes:
    """Values are separated by commas; what is none of the format's own signs may stand as %3B."""
    found: Attributes = {}
    for part in text.split(";"):
        key, _, values = part.partition("=")
        values = values.strip()
        quoted = len(values) > 1 and values[0] == values[-1] == '"'  # not the format's, but met
        parts = [values[1:-1]] if quoted else values.split(",")
        some = [unquote(value) for value in parts if value]
        found.setdefault(unquote(key.strip()), []).extend(some)
    return found
