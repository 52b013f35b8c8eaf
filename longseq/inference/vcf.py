"""A VCF or BCF → its alternatives, by pysam; what is wrong in it is told by its line.

for variant in read_variants("calls.vcf"): …     # raises UserError
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from longseq.data.sources.names import printable
from longseq.errors import UserError

NONE = "."  # the alternative of a site that has none
NO_REF = ("", ".")  # pysam's word for an empty REF is the dot
SHOWN = 40  # letters of a faulty line
BEHIND = 1 << 20  # bytes behind it that must be readable
GZIP = b"\x1f\x8b"
STANDS_FOR = {  # what a letter of the reference may be as REF, beside itself and N
    "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT", "X": "ACGT",
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """One alternative at `start`, the place of its first letter counted from 0."""

    record: str
    start: int
    name: str
    ref: str
    alt: str

    @property
    def is_sequence(self) -> bool:
        """Whether letters are there to score: no symbolic allele, breakend or missing one."""
        return self.alt.isascii() and self.alt.isalpha()

    @property
    def place(self) -> str:
        """As people write it, counted from 1."""
        return f"{self.record}:{self.start + 1}"


def read_variants(path: Path) -> Iterator[Variant]:
    """The alternatives of the file, and NONE of a site without; UserError where it is none, or has
    a line that is no row of one.
    """
    import pysam

    pysam.set_verbosity(0)  # htslib says on the screen what the exception says as well
    try:
        file = pysam.VariantFile(str(path))
    except NotImplementedError:  # pysam looks where it is in the file
        raise UserError(
            f"--variants {path} is packed by gzip, and only bgzip's blocks are read: unpack it"
        ) from None
    except OSError as error:
        if _is_index(path):
            raise UserError(
                f"--variants {path} is the index of a file of variants: name that file"
            ) from None
        said = str(error.strerror or error).rpartition(": ")[2]
        raise UserError(f"--variants {path}: {said}: name a whole VCF or BCF") from None
    except ValueError:  # whose text is of pysam's arguments
        raise UserError(
            f"--variants {path} cannot be read as VCF: it does not begin like one: name a VCF"
        ) from None
    number = 0
    try:
        with file:
            for number, row in enumerate(file, 1):
                if NONE in (row.alts or ()):  # pysam's word for nothing; for a lone dot it has None
                    raise _faulty(path, number, "has an empty ALT, where . stands for none")
                for alt in row.alts or (NONE,):
                    yield Variant(row.chrom, row.start, row.id or ".", row.ref or "", alt)
    except (OSError, ValueError):  # of the row behind the last good one, whatever is wrong with it
        raise _faulty(path, number + 1, "is no row of a VCF") from None


def agrees(found: str, ref: str) -> bool:
    """Whether REF is what the reference has: U is T, and of a letter that stands for several bases
    a VCF names one, or N.
    """
    found, ref = (letters.upper().replace("U", "T") for letters in (found, ref))
    if found == ref:
        return True
    pairs = zip(found, ref, strict=False)
    return len(found) == len(ref) and all(
        base == letter or (letter in STANDS_FOR and base in STANDS_FOR[letter] + "N")
        for letter, base in pairs
    )


def other_name(name: str, known: Set[str]) -> str:
    """What to say of a record that is not there: the same chromosome may have another name."""
    bare = name.removeprefix("chr")
    same = {f"chr{bare}", bare} | ({"chrM", "chrMT", "M", "MT"} if bare in ("M", "MT") else set())
    for other in sorted(same & known):
        return (
            f"record {name}, but {other}: use the same names in both, by bcftools annotate"
            f" --rename-chrs FILE with a line '{name} {other}' for each"
        )
    return f"record {name}: give its FASTA"


def _is_index(path: Path) -> bool:
    """Whether it is what tabix or bcftools index made."""
    try:
        with gzip.open(path, "rb") as file:
            return file.read(4) in (b"TBI\1", b"CSI\1")
    except (OSError, EOFError, zlib.error):
        return False


def _faulty(path: Path, number: int, what: str) -> UserError:
    """What to say of the row of this number, counted from 1."""
    try:
        at, line = _line_of(path, number)
    except (OSError, EOFError, zlib.error):
        return UserError(
            f"--variants {path}: record {number:,} cannot be read: the file may be damaged or cut"
            " off: fetch it again"
        )
    shown = printable(line[:SHOWN])
    return UserError(f"--variants {path}: line {at:,} {what}: {shown!r}: mend it or leave it out")


def _line_of(path: Path, number: int) -> tuple[int, str]:
    """The line of a row in the file, and what it says; EOFError where it has none, as a BCF, and
    others where the next block of a packed file is damaged: the line is good then.
    """
    with path.open("rb") as raw:
        squeezed = raw.read(2) == GZIP
    rows = 0
    with gzip.open(path, "rb") if squeezed else path.open("rb") as file:
        for at, line in enumerate(file, 1):
            if at == 1 and line.startswith(b"BCF"):
                break
            rows += bool(rows) or not line.startswith(b"#")
            if rows == number:
                file.read(BEHIND)
                return at, line.decode("utf-8", "replace").rstrip("\r\n")
    raise EOFError
