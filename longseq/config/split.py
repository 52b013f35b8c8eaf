"""What --split asks for: exact shares. The weights of a blend are written in the same way.

parse_split("949,50,1")     # [Fraction(949, 1000), Fraction(1, 20), Fraction(1, 1000)]
"""

from __future__ import annotations

from fractions import Fraction

from longseq.config.flags import PLAIN
from longseq.errors import UserError

LONGEST = 40  # letters of a weight


def weight_of(text: str) -> Fraction:
    """A weight such as 949, 0.7, 1e-3 or 1/3; ValueError or ZeroDivisionError where it is none.

    What has more digits than a weight needs is none: a fraction is exact, and all the zeros of
    1e999999999 would be computed with.
    """
    exponent = text.lower().partition("e")[2].lstrip("+-0")
    if len(text) > LONGEST or len(exponent) > 2 or not PLAIN.fullmatch(text):
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
