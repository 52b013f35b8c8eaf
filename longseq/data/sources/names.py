"""Names that come from files, as they may be shown, and a record whose letters are none."""

from longseq.errors import UserError
from longseq.reports.format import counted

REMEDY = "mend the record, or use --tokenizer byte for other text"
LONGEST = 4  # bytes of a character of UTF-8
MOST = 1 << 20  # names that are held against others, in some 100 MB


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


class Names:
    """The names of records as they come, and which of them came before; beyond MOST, not all."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._again = 0
        self._first = ""

    def add(self, name: str) -> None:
        known = hash(name)
        if known in self._seen:
            self._again += 1
            self._first = self._first or name
        elif len(self._seen) < MOST:
            self._seen.add(known)

    def said(self) -> str:
        """What is to be known of names that came more than once, if there are any."""
        if not self._again:
            return ""
        return (
            f"{counted(self._again, 'record', 'has', 'have')} the name of one before, the"
            f" first is {self._first}: in what is written their order alone tells them apart"
        )


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


def gaps_among_places(path: str, name: str, gaps: int, by: str) -> UserError:
    """That a record has letters that are no base, of which nobody can say whether places in it are
    counted with them; to be raised. by: what gives the places.
    """
    return UserError(
        f"{called(path, name)} has {gaps:,} alignment gap{'' if gaps == 1 else 's'} (- or .), which"
        f" stand for no base, and {by} counts places in it: give the sequence without gaps that it"
        " counts in (of FASTA, sed '/^>/!s/[-.]//g' removes them), or leave it out"
    )
