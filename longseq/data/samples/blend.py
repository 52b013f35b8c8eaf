"""Several datasets in one run: NAME.blend has a weight and a path on each line.

    0.7  bacteria/genomes
    0.3  phages/genomes

Which dataset gives sample i is computed from i alone, in exact fractions: among the first n samples
each dataset has its share of n to within one for each dataset before it.
"""

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from longseq.config.split import weight_of
from longseq.data.sources.formats import BLEND
from longseq.errors import UserError


@dataclass(frozen=True)
class Part:
    weight: Fraction
    path: str


def read_blend(path: str) -> list[Part]:
    """The datasets of a .blend file, relative to its folder; of another path, that path alone."""
    if not path.endswith(BLEND):
        return [Part(Fraction(1), path)]
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--data-path {path} cannot be read ({error})") from None
    parts = [
        _part(path, number, line)
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not parts:
        raise UserError(f"--data-path {path}: no line in it: give a weight and a path on each")
    total = sum(part.weight for part in parts)
    return [Part(part.weight / total, part.path) for part in parts]


def _part(path: str, number: int, line: str) -> Part:
    text, *name = line.split(maxsplit=1)
    try:
        value = weight_of(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if value <= 0 or not name:
        raise UserError(
            f"--data-path {path}: {line.strip()[:99]!r}: a line is a weight above 0 and a path"
        )
    inner = name[0].strip()
    if inner.endswith(BLEND):  # which would be trained on as a text
        raise UserError(
            f"--data-path {path}, line {number}: {inner!r} is a blend itself: put its lines here"
            f" instead, so that their weights are {text} together"
        )
    return Part(value, os.path.join(os.path.dirname(path), inner))


def place(index: int, weights: list[Fraction]) -> tuple[int, int]:
    """The dataset of sample `index`, and how many samples it gave before.

    The first dataset against all others takes sample n when the rounded n · weight steps; what it
    leaves is divided among the others in the same way.
    """
    left = Fraction(1)
    for dataset, weight in enumerate(weights[:-1]):
        share = weight / left
        before = _rounded(index * share)
        if _rounded((index + 1) * share) > before:
            return dataset, before
        index -= before
        left -= weight
    return len(weights) - 1, index


def _rounded(value: Fraction) -> int:
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)
