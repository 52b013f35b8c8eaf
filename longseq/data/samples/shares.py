"""What --split and --valid-records ask for: exact shares, names. Standard library only."""

import difflib
from fractions import Fraction
from pathlib import Path

from longseq.config.arguments import Data
from longseq.errors import UserError

LONGEST = 40  # letters of a weight


def weight_of(text: str) -> Fraction:
    """A weight such as 949, 0.7, 1e-3 or 1/3; ValueError or ZeroDivisionError where it is none.

    What has more digits than a weight needs is none: a fraction is exact, and all the zeros of
    1e999999999 would be computed with.
    """
    exponent = text.lower().partition("e")[2].lstrip("+-0")
    if len(text) > LONGEST or len(exponent) > 2:
        raise ValueError
    return Fraction(text)


def parse_split(text: str) -> list[Fraction]:
    """Weights as in 949,50,1 → shares that sum to 1."""
    try:
        weights = [weight_of(part.strip()) for part in text.split(",")]
    except (ValueError, ZeroDivisionError):
        weights = []
    if not 1 <= len(weights) <= 3 or min(weights) < 0 or sum(weights) == 0:
        raise UserError(
            f"--split {text[:99]!r}: give up to three weights that are not negative, like 949,50,1"
        )
    weights += [Fraction(0)] * (3 - len(weights))
    return [weight / sum(weights) for weight in weights]


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
