"""Training, validation and test: which tokens of a file belong to which.

A group (a genome, with its other strand) is in one part only. Which groups are held out is drawn by
--split-seed, or named by --valid-records and --test-records. Data of too few records for that, such
as one chromosome, are cut by position instead, both strands at the same bases; never where groups
were asked for with --group-by, or held out by name.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from longseq.data.indexed.format import Flags, Ints
from longseq.data.samples.cuts import PARTS, Documents, Segments, parts_by_place
from longseq.data.samples.shuffle import generator
from longseq.errors import UserError
from longseq.reports.format import counted


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
        whole = Split(parts_by_place(documents, shares, whole_documents=True), "document")
        if _fair(whole, shares):
            count = counted(documents.count, "document")
            return replace(whole, notes=_unmet(whole.parts, shares, f"none of {count} is divided"))
    parts = parts_by_place(documents, shares, whole_documents=False)
    split = Split(parts, "position", _unmet(parts, shares, "no cut by position comes nearer"))
    if len(documents.firsts) > 1:
        split.notes.append(
            f"{counted(len(documents.firsts), 'group')}, too few to stay whole: cut by position,"
            " both strands alike (--valid-records NAME holds one out)"
        )
    return split


def _by_group(
    documents: Documents, shares: list[Fraction], seed: int, named: Mapping[str, Flags]
) -> Split:
    """Whole groups, in an order drawn by the seed, the first for validation. Where there is no
    other way to cut them, the first drawn may be too large for it.
    """
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
    rest = [
        Fraction(0) if name in named else share for name, share in zip(PARTS, shares, strict=True)
    ]
    scale = Fraction(int(sizes[order].sum())) / sum(rest) if any(rest) else Fraction(0)
    wanted = rest[1] * scale
    if wanted and (documents.kept or named) and sizes[order[0]] > 2 * wanted:
        # Not a chromosome, where there is a plasmid: groups too large for a fair part come last
        excess = (sizes[order] - int(2 * wanted)).clip(0)
        order = order[np.argsort(excess, kind="stable")]
    ends = np.cumsum(sizes[order])
    valid = _nearest(ends, wanted)
    if rest[1] and not valid and len(order) > 1:
        valid = 1  # rather than none
    test = max(valid, _nearest(ends, (rest[1] + rest[2]) * scale))
    part_of[order[:valid]], part_of[order[valid:test]], part_of[order[test:]] = 1, 2, 0
    of_document = part_of[owner]
    parts = {name: _whole(documents, of_document == number) for number, name in enumerate(PARTS)}
    single = documents.groups is None and documents.group_of is None
    by = "document" if single else "group"
    return Split(
        parts, by, _unmet(parts, shares, f"none of the {len(sizes):,} groups is divided", named)
    )


def _nearest(ends: Ints, wanted: Fraction) -> int:
    """How many groups of these cumulative sizes come nearest to a number of tokens."""
    bounds = np.concatenate(([0], ends))
    place = int(np.searchsorted(bounds, int(wanted)).clip(1, len(bounds) - 1)) if len(ends) else 0
    if place and wanted - int(bounds[place - 1]) <= int(bounds[place]) - wanted:
        place -= 1
    return place


def _unmet(
    parts: Mapping[str, Segments], shares: list[Fraction], why: str, named: Collection[str] = ()
) -> list[str]:
    """Parts that are empty, or much larger or smaller than their share."""
    notes = []
    total = sum(part.num_tokens for part in parts.values())
    for share, (name, part) in zip(shares, parts.items(), strict=True):
        has = part.num_tokens / max(total, 1)
        if name in named or share / 2 <= has <= share * 2:
            continue
        notes.append(
            f"{name} has {has:.1%} of the tokens where --split asks for {float(share):.1%}: {why}"
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
