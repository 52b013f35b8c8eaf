"""Names that come from files, as they may be shown, and a record whose letters are none."""

from longseq.errors import UserError

REMEDY = "mend the record, or use --tokenizer byte for other text"
LONGEST = 4  # bytes of a character of UTF-8


def printable(text: str) -> str:
    """No escape sequence of a file reaches a terminal, no TAB a table: that is a blank."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text.replace("\t", " "))


def header_name(line: bytes) -> str:
    """The name in a FASTA header line, with or without its >."""
    return printable(line.removeprefix(b">").decode("utf-8", "replace").strip())


def first_word(name: str) -> str:
    """The first word of a header."""
    return next(iter(name.split()), "")


def called(path: str, name: str) -> str:
    """A record of a file."""
    return f"{path}: record {printable(name) or '(no name)'}"


def no_nucleotide(
    path: str, name: str, place: int, remedy: str = REMEDY, letters: bytes = b""
) -> UserError:
    """That the letter at a place of a record, from 0, is none; to be raised. letters: those from
    this place on, where they are at hand.
    """
    found = printable(letters[:LONGEST].decode("utf-8", "replace")[:1])
    what = f", but {found!r}" if found else ""
    return UserError(f"{called(path, name)}: letter {place + 1:,} is no nucleotide{what}: {remedy}")
