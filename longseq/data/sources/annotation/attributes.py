"""The lines of GFF3 and GTF files, their ninth columns with them → gffutils' features.

GTF is read as its format has it. gffutils takes a dialect from one line and reads the others by it:
a semicolon in quotes there, or no quotes, spoilt the names of a whole file.
"""

import re
from typing import Any

# key "value"; what a value in quotes holds, up to the quote that ends it, means nothing
ATTRIBUTE = re.compile(r'\s*([^\s;"]+)(?:\s+(?:"(.*?)"\s*(?=;|$)|([^;]*)))?\s*(?:;|$)')
QUOTED = re.compile(r'"[^"]*"')


class Reader:
    """The lines of one file; gtf: what it is, settled by the first line that says anything."""

    def __init__(self) -> None:
        self.gtf: bool | None = None
        self._dialect: Any = None  # of GFF3

    def read(self, columns: list[str]) -> Any:
        """The feature of a line."""
        from gffutils.feature import Feature, feature_from_line

        text = columns[8].strip()
        if self.gtf is None and text not in ("", "."):
            self.gtf = is_gtf(text)
        if self.gtf:
            return Feature(*columns[:8], attributes=gtf_attributes(text))
        feature = feature_from_line("\t".join(columns), dialect=self._dialect)
        if self.gtf is not None:
            self._dialect = self._dialect or feature.dialect
        return feature


def is_gtf(text: str) -> bool:
    """Whether attributes are `key "value"`, not GFF3's `key=value`."""
    return "=" not in QUOTED.sub("", text).lstrip("; ").partition(";")[0]


def gtf_attributes(text: str) -> dict[str, list[str]]:
    """Each key with its values; one that stands there twice has both."""
    found: dict[str, list[str]] = {}
    for key, quoted, bare in ATTRIBUTE.findall(text):
        value = quoted or bare.strip().strip('"')
        found.setdefault(key, []).extend([value] if value else [])
    return found
