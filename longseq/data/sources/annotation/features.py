"""Annotated stretches of a record, and what becomes of them: read in order, joined, in frame.

A feature is its parts in the order in which they are read: the exons of a coding sequence, each on
its strand, or the two ends of a circle that a gene goes over.
"""

from typing import NamedTuple

from longseq.errors import UserError

CODING = "CDS"

Span = tuple[int, int, bool]  # first base, one past the last, whether it is the other strand


class Feature(NamedTuple):
    """phase: letters before its first whole codon. table: its own genetic code, 0 if it says none.

    facts: what else its file says of it ("gene", "product").
    """

    kind: str
    name: str
    parts: tuple[Span, ...]
    phase: int = 0
    table: int = 0
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def low(self) -> int:
        return min(start for start, _, _ in self.parts)

    @property
    def high(self) -> int:
        return max(stop for _, stop, _ in self.parts)

    @property
    def length(self) -> int:
        return sum(stop - start for start, stop, _ in self.parts)

    @property
    def location(self) -> str:
        """1-based, in reading order: 11..20+,31..40+."""
        return ",".join(f"{a + 1}..{b}{'-' if back else '+'}" for a, b, back in self.parts)


def on_circle(feature: Feature, length: int, circular: bool) -> Feature | None:
    """A feature within a record of this length; one beyond its end goes on at its start, where the
    record is a circle. None: it does not fit.
    """
    if feature.high <= length:
        return feature
    if not circular or feature.high > 2 * length:
        return None
    parts: list[Span] = []
    for start, stop, back in feature.parts:
        if start >= length:
            parts.append((start - length, stop - length, back))
        elif stop <= length:
            parts.append((start, stop, back))
        else:
            ends = [(start, length, back), (0, stop - length, back)]
            parts += ends[::-1] if back else ends
    return feature._replace(parts=tuple(parts))


def in_order(parts: list[Span]) -> tuple[Span, ...]:
    """Parts as they are read: up on one strand, down on the other; as listed where they mix."""
    strands = {back for _, _, back in parts}
    if len(strands) > 1:
        return tuple(parts)
    return tuple(sorted(parts, reverse=True in strands))


def kinds_of(text: str) -> tuple[str, ...]:
    """--features CDS,gene → its names."""
    kinds = tuple(kind.strip() for kind in text.split(",") if kind.strip())
    if text and (not kinds or len(set(kinds)) < len(kinds)):
        raise UserError(f"--features {text!r}: give names such as CDS,tRNA, each once")
    return kinds
