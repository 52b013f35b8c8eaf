"""Documents in their places, and where parts of them meet that a cut through the genome makes.

A cut goes through one base of one record, on both strands and through every document there.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from longseq.data.indexed.format import Flags, Ints

Interval = tuple[Ints, Ints]  # of each document's tokens, first and one past the last
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Documents:
    """What a split must know of a file's documents.

    offsets   int64 [documents + 1], tokens. closed: each document's last token is its end token
    groups    int64 [groups], the first document of each; None: each document is one
    kept      groups are never divided: they were asked for
    record, start, backward   [documents]: the record a document lies in, its first base there, and
              whether it reads the other strand; None: each is a record, read forward
    bases     of a token; mirrored: each stretch is there on both strands
    reaches   [documents, 2], lowest base and one past the highest of joined exons, which no cut
              divides; below 0 for other documents
    group_of  [documents], the group of each, where those of a group are not side by side
    lead      tags before each document
    """

    offsets: Ints
    closed: bool
    groups: Ints | None = None
    kept: bool = False
    record: Ints | None = None
    start: Ints | None = None
    backward: Flags | None = None
    bases: int = 1
    mirrored: bool = False
    reaches: Ints | None = None
    group_of: Ints | None = None
    lead: int = 0

    @property
    def count(self) -> int:
        return len(self.offsets) - 1

    @property
    def firsts(self) -> Ints:
        """The first document of each group, [groups]."""
        return np.arange(self.count) if self.groups is None else self.groups

    @property
    def owner(self) -> Ints:
        """The group of each document, [documents]."""
        if self.group_of is not None:
            return self.group_of
        sizes = np.diff(np.append(self.firsts, self.count))
        return np.repeat(np.arange(len(sizes)), sizes)


@dataclass(frozen=True)
class Segments:
    """Documents, or pieces of them, in file order.

    start, length: int64 [n], tokens in the file; closed: bool [n], whether the last token ends a
    document.
    """

    start: Ints
    length: Ints
    closed: Flags

    @property
    def num_tokens(self) -> int:
        return int(self.length.sum())


@dataclass(frozen=True)
class _Cut:
    """All records before `record`, and of that one the bases before `base`, lie below it."""

    record: int
    base: int


def parts_by_place(
    documents: Documents, shares: list[Fraction], whole_documents: bool
) -> dict[str, Segments]:
    """The parts below, between and above two cuts, as near to their shares as cuts come."""
    forward = np.arange(documents.count)
    if documents.mirrored and documents.backward is not None:  # one strand is counted along
        forward = np.flatnonzero(~documents.backward)
    counted = _some(documents, forward)
    cuts = [_cut(counted, share, whole_documents) for share in (shares[0], shares[0] + shares[1])]
    return _between(documents, cuts, whole_documents)


def _some(documents: Documents, chosen: Ints | Flags) -> Documents:
    """These documents alone, in their places, without their groups."""
    sizes = documents.offsets[1:][chosen] - documents.offsets[:-1][chosen]
    start, back, reaches = documents.start, documents.backward, documents.reaches
    return replace(
        documents,
        offsets=np.append(0, np.cumsum(sizes)),
        groups=None,
        group_of=None,
        record=_records(documents)[chosen],
        start=None if start is None else start[chosen],
        backward=None if back is None else back[chosen],
        reaches=None if reaches is None else reaches[chosen],
    )


def _cut(documents: Documents, share: Fraction, whole_documents: bool) -> _Cut:
    """Where what falls below has the share of all that falls on a side, or comes nearest to it."""
    records, of_record = np.unique(_records(documents), return_inverse=True)
    sizes = np.bincount(of_record, np.diff(documents.offsets)).astype(np.int64)
    ends = np.cumsum(sizes)
    place = int(np.searchsorted(ends, int(share * int(ends[-1])), side="right"))
    if place == len(ends):
        return _Cut(np.iinfo(np.int64).max, 0)
    record = int(records[place])
    search = _Search(
        _some(documents, of_record == place),
        record,
        int(ends[place] - sizes[place]),
        int(ends[-1] - ends[place]),
        whole_documents,
    )

    def over(below: int, above: int) -> int:
        return below - int(share * (below + above))

    base = search.lowest(lambda below, above: over(below, above) >= 0)
    level = search.at(base)[0]
    lower = search.lowest(lambda below, _: below >= level)
    if lower < base:  # not by what fell below since, but by what is divided there
        base = search.lowest(lambda below, _: below > level)
    else:
        level = search.at(base - 1)[0]
        lower = search.lowest(lambda below, _: below >= level)
    if -over(*search.at(lower)) < over(*search.at(base)) + whole_documents:
        base = lower  # also a document that is as far from it on either side
    return _Cut(record, base)


class _Search:
    """Cuts of one record; documents: its own; below, above: tokens of the other records."""

    def __init__(
        self, documents: Documents, record: int, below: int, above: int, whole_documents: bool
    ) -> None:
        self.documents, self.record, self.whole_documents = documents, record, whole_documents
        self.starts, self.stops = _extents(documents)
        by_start, by_stop = np.argsort(self.starts), np.argsort(self.stops)
        sizes = np.diff(documents.offsets)
        # Tokens of those that have stopped, and that have not begun, by how many these are
        self.below = below + np.append(0, np.cumsum(sizes[by_stop]))
        self.above = above + int(sizes.sum()) - np.append(0, np.cumsum(sizes[by_start]))
        self.begun, self.stopped = self.starts[by_start], self.stops[by_stop]

    def at(self, base: int) -> tuple[int, int]:
        """Tokens that fall below and above a cut."""
        below = int(self.below[np.searchsorted(self.stopped, base, side="right")])
        above = int(self.above[np.searchsorted(self.begun, base)])
        if self.whole_documents:
            return below, above
        divided = np.flatnonzero((self.starts < base) & (base < self.stops))
        lower, upper = _sides(_some(self.documents, divided), _Cut(self.record, base))
        return below + _tokens(lower), above + _tokens(upper)

    def lowest(self, enough: Callable[[int, int], bool]) -> int:
        """The lowest base with `enough` tokens below and above; more lie below a higher one."""
        low, high = int(self.begun[0]), int(self.stopped[-1])
        while low < high:
            middle = (low + high) // 2
            if enough(*self.at(middle)):
                high = middle
            else:
                low = middle + 1
        return low


def _tokens(within: Interval) -> int:
    return int((within[1] - within[0]).clip(0).sum())


def _extents(documents: Documents) -> Interval:
    """The first base of each document, and one past the last."""
    tokens = np.diff(documents.offsets) - documents.closed - documents.lead
    starts = _starts(documents)
    stops = starts + tokens.clip(0) * documents.bases
    if documents.reaches is None:
        return starts, stops
    low, high = documents.reaches.T
    return _choose(high >= 0, (low, high), (starts, stops))


def _records(documents: Documents) -> Ints:
    return np.arange(documents.count) if documents.record is None else documents.record


def _starts(documents: Documents) -> Ints:
    return np.zeros(documents.count, np.int64) if documents.start is None else documents.start


def _between(documents: Documents, cuts: list[_Cut], whole_documents: bool) -> dict[str, Segments]:
    """The parts below, between and above two cuts; a token that a cut divides is in none, and where
    documents stay whole neither is one that it divides (two genes that overlap).
    """
    sizes = np.diff(documents.offsets)
    none, everything = (np.zeros_like(sizes), np.zeros_like(sizes)), (np.zeros_like(sizes), sizes)
    below, above = zip(*(_sides(documents, cut) for cut in cuts), strict=True)
    parts = {}
    for name, low, high in zip(PARTS, (everything, *above), (*below, everything), strict=True):
        first, last = np.maximum(low[0], high[0]), np.minimum(low[1], high[1])
        if whole_documents:
            divided = (first > 0) | (last < sizes)
            first, last = np.where(divided, none, (first, last))
        parts[name] = _pieces(documents, first, last)
    return parts


def _sides(documents: Documents, cut: _Cut) -> tuple[Interval, Interval]:
    """Each document's tokens below and above a cut: first and one past the last, [documents]."""
    size, sizes, lead = documents.bases, np.diff(documents.offsets), documents.lead
    bases = (sizes - documents.closed - lead).clip(0) * size
    before = _records(documents) < cut.record
    inside = _records(documents) == cut.record
    below = np.where(inside, (cut.base - _starts(documents)).clip(0, bases), bases * before)
    above = bases - below
    zero = np.zeros_like(sizes)
    wholly = before | (inside & (above == 0))
    lower = (zero, np.where(wholly, sizes, below // size + lead * (below > 0)))
    upper = (np.where(wholly, sizes, -(-below // size) + lead * (below > 0)), sizes)
    if documents.reaches is not None:
        low, high = documents.reaches.T
        joined = inside & (high >= 0)
        under, over = joined & (high <= cut.base), joined & (low >= cut.base)
        lower = _choose(joined, (zero, np.where(under, sizes, 0)), lower)
        upper = _choose(joined, (np.where(over, 0, sizes), sizes), upper)
    if documents.backward is None:
        return lower, upper
    wholly = ~before & (below == 0)  # above; the other strand is read from there down
    first = (zero, np.where(wholly, sizes, above // size + lead * (above > 0)))
    second = (np.where(wholly, sizes, -(-above // size) + lead * (above > 0)), sizes)
    back = documents.backward
    return _choose(back, second, lower), _choose(back, first, upper)


def _choose(which: Flags, yes: Interval, no: Interval) -> Interval:
    return np.where(which, yes[0], no[0]), np.where(which, yes[1], no[1])


def _pieces(documents: Documents, first: Ints, last: Ints) -> Segments:
    offsets = documents.offsets
    kept = last > first
    closed = (last == np.diff(offsets)) & documents.closed
    return Segments((offsets[:-1] + first)[kept], (last - first)[kept], closed[kept])
