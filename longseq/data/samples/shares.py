"""--split 949,50,1 → shares."""

from fractions import Fraction

from longseq.errors import UserError


def parse_split(text: str) -> list[Fraction]:
    """Weights as in 949,50,1 → shares that sum to 1."""
    try:
        weights = [Fraction(part.strip()) for part in text.split(",")]
    except (ValueError, ZeroDivisionError):
        weights = []
    if not 1 <= len(weights) <= 3 or min(weights) < 0 or sum(weights) == 0:
        raise UserError(
            f"--split {text!r}: give up to three weights that are not negative, like 949,50,1"
        )
    weights += [Fraction(0)] * (3 - len(weights))
    return [weight / sum(weights) for weight in weights]
