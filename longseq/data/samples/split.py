"""Training, validation and test: which tokens of a file belong to which.

A group (a genome, with its other strand) is in one part only. Which groups are held out is drawn by
--split-seed, or named by --valid-records and --test-records. Data of too few records for that, such
as one chromosome, are cut by position instead, both strands at the same bases; never where groups
were asked for with --group-by, or held out by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from longseq.data.indexed.format import Flags, Ints
from longseq.data.samples.shuffle import generator
from longseq.errors import UserError
from longseq.reports.format import counted

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
class Split:
    """The parts, how they were cut ("group", "document" or "position"), and what to say of it."""

    parts: dict[str, Segments]
    by: str
    notes: list[str] = field(default_factory=list)


def split_documents(
    documents: Documents,
    shares: list[Fraction],
    seed: int = 0,
    named: Mapping[str, Flags] | None = None,
) -> Split:
    """Cut a file's documents into three parts.

    named: for "valid" and "test", bool [documents], what is held out by name; the rest is divided
    by the shares of the other parts.
    """
    if named:
        return _by_group(documents, shares, seed, named)
    split = _by_group(documents, shares, seed, {})
    if documents.kept or _fair(split, shares):
        return split
    if documents.mirrored and documents.record is None:
        raise UserError(
            "the data do not say where their documents lie in the genome, so that the other strand"
            " of what is held out cannot be held out: prepare them again"
        )
    if documents.groups is not None and not documents.mirrored:
        whole = _between(documents, _cuts(documents, shares, whole_documents=True), "document")
        if _fair(whole, shares):
            return whole
    split = _between(documents, _cuts(documents, shares, whole_documents=False), "position")
    if len(documents.firsts) > 1:
        split.notes.append(
            f"{counted(len(documents.firsts), 'group')}, too few to stay whole: cut by position,"
            " both strands alike (--valid-records NAME holds one out)"
        )
    return split


def _by_group(
    documents: Documents, shares: list[Fraction], seed: int, named: Mapping[str, Flags]
) -> Split:
    """Whole groups, in an order drawn by the seed, the first for validation."""
    owner = documents.owner
    sizes = np.bincount(owner, np.diff(documents.offsets)).astype(np.int64)
    part_of = np.full(len(sizes), -1)
    for part in named:
        chosen = np.bincount(owner, named[part], len(sizes)) > 0
        if (part_of[chosen] >= 0).any():
            raise UserError("--valid-records and --test-records name the same group: name it once")
        part_of[chosen] = PARTS.index(part)
    left = np.flatnonzero(part_of < 0)
    order = left[generator(seed, 2).permutation(len(left))]
    ends = np.cumsum(sizes[order])
    rest = [
        Fraction(0) if name in named else share for name, share in zip(PARTS, shares, strict=True)
    ]
    total = int(ends[-1]) if len(ends) else 0
    scale = Fraction(total) / sum(rest) if any(rest) else Fraction(0)
    valid = _nearest(ends, rest[1] * scale)
    if rest[1] and not valid and len(order) > 1:
        valid = 1  # the smallest there can be, rather than none
    test = max(valid, _nearest(ends, (rest[1] + rest[2]) * scale))
    part_of[order[:valid]], part_of[order[valid:test]], part_of[order[test:]] = 1, 2, 0
    of_document = part_of[owner]
    parts = {name: _whole(documents, of_document == number) for number, name in enumerate(PARTS)}
    single = documents.groups is None and documents.group_of is None
    by = "document" if single else "group"
    return Split(parts, by, _unmet(parts, shares, named, len(sizes)))


def _nearest(ends: Ints, wanted: Fraction) -> int:
    """How many groups of these cumulative sizes come nearest to a number of tokens."""
    bounds = np.concatenate(([0], ends))
    place = int(np.searchsorted(bounds, int(wanted)).clip(1, len(bounds) - 1)) if len(ends) else 0
    if place and wanted - int(bounds[place - 1]) <= int(bounds[place]) - wanted:
        place -= 1
    return place


def _unmet(
    parts: dict[str, Segments], shares: list[Fraction], named: Mapping[str, Flags], groups: int
) -> list[str]:
    """Parts that whole groups make empty, or much larger or smaller than their share."""
    notes = []
    total = sum(part.num_tokens for part in parts.values())
    for share, (name, part) in zip(shares, parts.items(), strict=True):
        has = part.num_tokens / total
        if name in named or share / 2 <= has <= share * 2:
            continue
        notes.append(
            f"{name} has {has:.1%} of the tokens where --split asks for {float(share):.1%}: none of"
            f" the {groups:,} groups is divided"
        )
    return notes


def _fair(split: Split, shares: list[Fraction]) -> bool:
    """Whether training and validation have between half and twice their shares."""
    total = sum(part.num_tokens for part in split.parts.values())
    for name, share in zip(PARTS[:2], shares, strict=False):
        if not share * total / 2 <= split.parts[name].num_tokens <= share * total * 2:
            return False
    return True


def _whole(documents: Documents, chosen: Flags) -> Segments:
    lengths = np.diff(documents.offsets)
    chosen = chosen & (lengths > 0)
    closed = np.full(int(chosen.sum()), documents.closed)
    return Segments(documents.offsets[:-1][chosen], lengths[chosen], closed)


@dataclass(frozen=True)
class _Cut:
    """All records before `record`, and of that one the bases before `base`, lie below it."""

    record: int
    base: int


def _cuts(documents: Documents, shares: list[Fraction], whole_documents: bool) -> list[_Cut]:
    """Where the parts meet: between two documents, or anywhere."""
    forward = np.arange(documents.count)
    if documents.mirrored and documents.backward is not None:  # one strand is counted along
        forward = np.flatnonzero(~documents.backward)
    starts, lengths = _starts(documents), np.diff(documents.offsets)[forward]
    ends = np.cumsum(lengths)
    total, cuts = int(ends[-1]), []
    for share in (shares[0], shares[0] + shares[1]):
        wanted = int(share * total)
        if whole_documents:
            wanted = int(np.append(0, ends)[_nearest(ends, Fraction(wanted))])
        place = int(np.searchsorted(ends, wanted, side="right"))
        if place == len(forward):
            cuts.append(_Cut(np.iinfo(np.int64).max, 0))
            continue
        document = int(forward[place])
        within = wanted - int(ends[place] - lengths[place])
        base = int(starts[document]) + max(0, within - documents.lead) * documents.bases
        cuts.append(_Cut(int(_records(documents)[document]), base))
    return cuts


def _records(documents: Documents) -> Ints:
    return np.arange(documents.count) if documents.record is None else documents.record


def _starts(documents: Documents) -> Ints:
    return np.zeros(documents.count, np.int64) if documents.start is None else documents.start


def _between(documents: Documents, cuts: list[_Cut], by: str) -> Split:
    """The parts below, between and above two cuts; a token that a cut divides is in none, and where
    documents stay whole neither is one that it divides (two genes that overlap).
    """
    sizes = np.diff(documents.offsets)
    none, everything = (np.zeros_like(sizes), np.zeros_like(sizes)), (np.zeros_like(sizes), sizes)
    below, above = zip(*(_sides(documents, cut) for cut in cuts), strict=True)
    parts = {}
    for name, low, high in zip(PARTS, (everything, *above), (*below, everything), strict=True):
        first, last = np.maximum(low[0], high[0]), np.minimum(low[1], high[1])
        if by == "document":
            divided = (first > 0) | (last < sizes)
            first, last = np.where(divided, none, (first, last))
        parts[name] = _pieces(documents, first, last)
    return Split(parts, by)


Interval = tuple[Ints, Ints]  # of each document's tokens, [documents]


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
