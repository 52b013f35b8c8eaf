"""Training, validation and test: which tokens of a file belong to which.

By group (all documents of a genome) or document when they are many enough for every part to get
about its share, so that no genome is in two parts; else by position, without overlap. A document
that a cut leaves without its end token is marked open, and the stream closes it.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from longseq.errors import UserError

PARTS = ("train", "valid", "test")
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Segments:
    """Documents, or pieces of them, in file order.

    start, length: int64 [n], tokens in the file; closed: bool [n], whether the last token ends a
    document.
    """

    start: Ints
    length: Ints
    closed: npt.NDArray[np.bool_]

    @property
    def num_tokens(self) -> int:
        return int(self.length.sum())


@dataclass(frozen=True)
class Split:
    """The three parts and how they were cut: by "group", "document" or "position"."""

    parts: dict[str, Segments]
    by: str


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


def split_documents(
    offsets: Ints,
    closed: bool,
    shares: list[Fraction],
    groups: Ints | None = None,
    strands: int = 1,
) -> Split:
    """Cut a file's documents into three parts.

    offsets: int64 [documents + 1], tokens. closed: whether documents end with an end token. groups:
    first document of each group that must stay whole (a genome and its other strand), or None.
    strands: 2 where each document is followed by its reverse complement.
    """
    total = int(offsets[-1])
    wanted = [0, int(shares[0] * total), int((shares[0] + shares[1]) * total), total]
    cuts, by = wanted, "position"
    if _fair(at_groups := _nearest(_group_bounds(offsets, groups), wanted), shares, total):
        cuts, by = at_groups, "document" if groups is None else "group"
    elif strands == 1 and _fair(at_documents := _nearest(offsets, wanted), shares, total):
        cuts, by = at_documents, "document"
    parts = {}
    for name, low, high in zip(PARTS, cuts[:-1], cuts[1:], strict=True):
        if by == "position" and strands == 2:
            parts[name] = _both_strands(offsets, low // 2, high // 2)
        else:
            parts[name] = _segments(offsets, closed, low, high)
    return Split(parts, by)


def _both_strands(offsets: Ints, low: int, high: int) -> Segments:
    """Pieces of the forward documents between two positions, counted over them alone, and their
    mirrors.

    Without this a stretch that is held back for validation would be trained on from its other
    strand.
    """
    starts, ends = offsets[:-1], offsets[1:]
    lengths = ends - starts
    if len(lengths) % 2 or (lengths[0::2] != lengths[1::2]).any():
        raise UserError(
            "these records cannot be cut by position on both strands: prepare them without"
            " --reverse-complement, or give enough records for a split by document"
        )
    size = lengths[0::2]  # with the end token
    before = np.concatenate(([0], np.cumsum(size)[:-1]))
    first, last = (low - before).clip(0, size), (high - before).clip(0, size)
    kept = last > first
    first, last, bases = first[kept], last[kept], size[kept] - 1
    forward, backward = starts[0::2][kept], starts[1::2][kept]
    mirror_first = bases - np.minimum(last, bases)
    mirror_last = bases - first + (first == 0)
    start = np.stack((forward + first, backward + mirror_first), axis=1).ravel()
    length = np.stack((last - first, mirror_last - mirror_first), axis=1).ravel()
    closed = np.stack((last > bases, mirror_last > bases), axis=1).ravel()
    return Segments(start[length > 0], length[length > 0], closed[length > 0])


def _group_bounds(offsets: Ints, groups: Ints | None) -> Ints:
    return offsets if groups is None else np.append(offsets[groups], offsets[-1])


def _nearest(bounds: Ints, wanted: list[int]) -> list[int]:
    places = np.searchsorted(bounds, wanted).clip(1, len(bounds) - 1)
    below, above = bounds[places - 1], bounds[places]
    return [int(x) for x in np.where(wanted - below <= above - wanted, below, above)]


def _fair(cuts: list[int], shares: list[Fraction], total: int) -> bool:
    """Every part has between half and twice its share, and a part without a share has nothing."""
    for share, low, high in zip(shares, cuts[:-1], cuts[1:], strict=True):
        if not share * total / 2 <= high - low <= share * total * 2:
            return False
    return True


def _segments(offsets: Ints, closed: bool, low: int, high: int) -> Segments:
    """The documents, or pieces of documents, between two positions of the file."""
    first = int(np.searchsorted(offsets, low, side="right")) - 1
    last = int(np.searchsorted(offsets, high, side="left"))
    starts = offsets[first:last].clip(low, high)
    ends = offsets[first + 1 : last + 1].clip(low, high)
    whole = (ends == offsets[first + 1 : last + 1]) & closed
    kept = ends > starts
    return Segments(starts[kept], (ends - starts)[kept], whole[kept])
