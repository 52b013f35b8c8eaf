"""The names that --valid-records and --test-records ask for. Standard library only."""

import difflib
from pathlib import Path

from longseq.config.arguments import Data
from longseq.errors import UserError


def asked_names(options: Data) -> dict[str, list[str]]:
    """For "valid" and "test" the names of what is held out, where that is asked for."""
    return {
        part: _listed(f"--{part}-records", text)
        for part, text in (("valid", options.valid_records), ("test", options.test_records))
        if text
    }


def _listed(flag: str, text: str) -> list[str]:
    """Names separated by commas, or @FILE with one a line."""
    lines = text.split(",")
    if text.startswith("@"):
        try:
            lines = Path(text[1:]).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{flag} {text}: cannot be read as a list of names ({error})") from None
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise UserError(f"{flag} {text} names no record: give names, or leave the flag out")
    return names


def refuse_unknown(asked: dict[str, list[str]], found: set[str], known: set[str]) -> None:
    """Raise UserError for a name that is not among those found; known: some of what there is."""
    for part, names in asked.items():
        for name in set(names) - found:
            near = _nearest(name, known)
            hint = f": did you mean {near!r}?" if near else ""
            raise UserError(
                f"--{part}-records {name}: no record or file of the data has that name{hint}"
            )


def _nearest(name: str, known: set[str]) -> str:
    """The one that was meant, or "": the same chromosome in other words, else what resembles it."""
    same = [other for other in sorted(known) if _bare(other) == _bare(name)]
    return next(iter(same or difflib.get_close_matches(name, sorted(known), 1)), "")


def _bare(name: str) -> str:
    return name.lower().removeprefix("chr")
