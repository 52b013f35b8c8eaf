"""Which tokens of a sample each rank holds, and where documents lie among them.

A ring of R ranks cuts the sample into 2R chunks and gives rank r the chunks r and 2R-1-r (zig-zag):
under a causal mask early chunks see little and late ones much, and every such pair sees the same.
Where attention stops at documents that no longer holds, and the pattern is repeated over many
smaller chunks, so that every rank has some of every document's beginning and end.
Ulysses ranks divide their ring rank's tokens, in that order, into equal runs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from longseq.attention.kernel import Documents

Spans = list[tuple[int, int]]


MOST_PERIODS, LEAST_CHUNK = 16, 128  # a kernel's call on less costs more than its work


def ring_periods(length: int, size: int, documents: bool) -> int:
    """How often the zig-zag pattern is repeated over a sample."""
    periods = MOST_PERIODS if documents and size > 1 else 1
    while periods > 1 and (
        length % (2 * size * periods) or length // (2 * size * periods) < LEAST_CHUNK
    ):
        periods //= 2
    return periods


def ring_spans(length: int, rank: int, size: int, periods: int = 1) -> Spans:
    """The pieces of [0, length) of one ring rank, in order."""
    if size == 1:
        return [(0, length)]
    chunk = length // (2 * size * periods)
    late = 2 * size - 1 - rank
    numbers = [2 * size * period + at for period in range(periods) for at in (rank, late)]
    return [(number * chunk, (number + 1) * chunk) for number in numbers]


def part_of(spans: Spans, rank: int, size: int) -> Spans:
    """The tokens of rank `rank` where `size` ranks divide those of `spans` into equal runs."""
    count = sum(stop - start for start, stop in spans) // size
    first, result = rank * count, []
    for start, stop in spans:
        low, high = max(first, 0), min(first + count, stop - start)
        if low < high:
            result.append((start + low, start + high))
        first -= stop - start
    return result


def held_spans(
    length: int, ulysses: tuple[int, int], ring: tuple[int, int], documents: bool = False
) -> Spans:
    """The tokens of (rank, size) on each axis; `documents`: attention stops at their ends."""
    periods = ring_periods(length, ring[1], documents)
    return part_of(ring_spans(length, *ring, periods), *ulysses)


def earlier(mine: Spans, theirs: Spans) -> list[tuple[int, int, int]]:
    """For a causal mask between two ranks: which of the other's tokens each of mine may see.

    Returns (start, stop, count) for runs of my tokens, numbered as they lie in my memory: tokens
    start … stop - 1 may see the other rank's first `count` tokens. A prefix is enough, as both
    ranks hold their spans in ascending order.
    """
    result: list[tuple[int, int, int]] = []
    at = 0
    for low, high in mine:
        before = sum(min(stop, low) - start for start, stop in theirs if start < low)
        if result and result[-1][2] == before:
            result[-1] = (result[-1][0], at + high - low, before)
        else:
            result.append((at, at + high - low, before))
        at += high - low
    return result


def numbers(spans: Spans, ends: Sequence[int]) -> range:
    """The documents, which end at `ends`, from that of the first token of `spans` to that of the
    last. The tokens behind the last end are a document too.
    """
    first, last = bisect_right(ends, spans[0][0]), bisect_right(ends, spans[-1][1] - 1)
    return range(first, last + 1)


def segments(spans: Spans, ends: Sequence[int], among: range) -> dict[int, tuple[int, int]]:
    """Document number → where its tokens [start, stop) lie in the memory of who holds `spans`.

    `among`: documents that are looked for. Nothing is done for others, as there may be thousands.
    """
    result: dict[int, tuple[int, int]] = {}
    before = 0
    for low, high in spans:
        for number in range(max(among.start, bisect_right(ends, low)), among.stop):
            start = max(low, ends[number - 1]) if number else low
            if start >= high:
                break
            stop = min(high, ends[number]) if number < len(ends) else high
            if start < stop:
                at = before + start - low, before + stop - low
                known = result.get(number, at)
                result[number] = known[0], at[1]
        before += high - low
    return result


def common(
    mine: Spans, theirs: Spans, documents: Documents, rows: int
) -> Iterator[tuple[slice, tuple[int, int], tuple[int, int]]]:
    """For each document that two ranks both hold tokens of: (row, my tokens, their tokens).

    row is a slice of the batch, the tokens are [start, stop) as they lie in each rank's memory.
    Without documents everything is one document, of all rows.
    """
    for row in range(rows if documents else 1):
        here = slice(row, row + 1) if documents else slice(None)
        ends = documents[row] if documents else ()
        a, b = numbers(mine, ends), numbers(theirs, ends)
        among = range(max(a.start, b.start), min(a.stop, b.stop))
        keys = segments(theirs, ends, among)
        for number, run in segments(mine, ends, among).items():
            if number in keys:
                yield here, run, keys[number]
