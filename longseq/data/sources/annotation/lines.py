"""One line of BED, GFF3 or GTF: what it says of a place, or what is wrong with it."""

from collections.abc import Sequence
from itertools import pairwise

from longseq.data.sources.annotation.features import Feature, Span, in_order
from longseq.data.sources.names import printable
from longseq.reports.format import counted

REGION = "region"
MEND = "mend it or leave it out"


class Faulty(ValueError):
    """A line of BED, GFF3 or GTF, with what is wrong with it and the remedy."""


def _numbers(texts: Sequence[str], what: str) -> list[int]:
    try:
        return [int(text) for text in texts]
    except ValueError:
        shown = " and ".join(repr(printable(text)[:20]) for text in texts[:9])
        raise Faulty(f"{what} {shown}, where numbers belong: {MEND}") from None


def region_of(columns: list[str]) -> tuple[str, Feature]:
    """A line of BED: its record and its region; Faulty where it is none."""
    if len(columns) < 3:
        raise Faulty(f"it has {counted(len(columns), 'column')}, where BED has 3 or more: {MEND}")
    record = columns[0]
    start, stop = _numbers(columns[1:3], "its columns 2 and 3 are")
    back = len(columns) > 5 and columns[5] == "-"
    place = f"{printable(record)} {start} {stop}"
    if start < 0:
        raise Faulty(f"{place} begins below 0, the first base: {MEND}")
    if stop <= start:
        what = "has no length" if start == stop else "ends before it begins"
        raise Faulty(f"{place} {what}: {MEND}")
    name = columns[3] if len(columns) > 3 and columns[3] != "." else f"{start + 1}-{stop}"
    spans = _blocks(columns, start, stop, back) if len(columns) >= 12 else [(start, stop, back)]
    return record, Feature(REGION, printable(name), in_order(spans))


def _blocks(columns: list[str], start: int, stop: int, back: bool) -> list[Span]:
    """The blocks of a line of twelve columns."""
    texts = [[text for text in column.split(",") if text] for column in columns[10:12]]
    sizes = _numbers(texts[0], "its column 11 is")
    offsets = _numbers(texts[1], "its column 12 is")
    said = _numbers(columns[9:10], "its column 10 is")
    if not len(sizes) == len(offsets) == said[0] > 0:
        raise Faulty(
            f"it has {counted(len(sizes), 'size')} of blocks in column 11 and"
            f" {counted(len(offsets), 'start')} in column 12, of {said[0]} in column 10: {MEND}"
        )
    if min(sizes) <= 0:
        raise Faulty(f"a block in its column 11 has no length ({min(sizes)}): {MEND}")
    spans = sorted((start + o, start + o + s, back) for s, o in zip(sizes, offsets, strict=True))
    low, high = spans[0][0], max(high for _, high, _ in spans)
    if (low, high) != (start, stop):
        raise Faulty(
            f"its blocks go from {low} to {high}, and columns 2 and 3 say {start} to {stop}:"
            " mend it"
        )
    for (_, end, _), (after, _, _) in pairwise(spans):
        if after < end:
            raise Faulty(f"a block begins at {after}, where the one before ends at {end}: {MEND}")
    return spans


def span_of(columns: list[str]) -> tuple[int, int]:
    """The first base of a line of GFF3 or GTF, from 0, and one past the last; they count from 1 to
    the last.
    """
    what = f"{printable(columns[2])} of {printable(columns[0])}"
    start, stop = _numbers(columns[3:5], f"{what} has the places")
    if start < 1:
        raise Faulty(f"{what} begins at {start}, where the first base is 1: {MEND}")
    if stop < start:
        raise Faulty(
            f"{what} ends at {stop}, before it begins at {start}: {MEND} (over the origin of a"
            " circle its end is counted on behind the record's)"
        )
    return start - 1, stop
