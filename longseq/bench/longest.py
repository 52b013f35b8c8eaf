"""The longest sequence that a layout trains: doubled until it does not, then halved in between.

find_longest(case, most, try_one)         # case: the first length to try
span = span_of(results)                   # what is known of it: (ran, did not, why)
planned_longest(results, memory_gib)      # where the estimate of its runs' memory reaches that
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from longseq.bench.case import Case
from longseq.bench.kept import OK, Result

NEAR = 8  # the answer is within an eighth of itself
Try = Callable[[Case], Result | None]


def find_longest(case: Case, most: int, try_one: Try) -> bool:
    """Try lengths from that of `case` up to `most` tokens; False where time ended it before.

    try_one: runs a case, or looks up what is known; None where there is no time for it.
    """
    step = case.length
    longest, failing = 0, 0
    while longest < most:
        length = min(2 * longest, most) if not failing else _between(longest, failing, step)
        length = max(length, step)
        if length in (longest, failing) or (failing and failing - longest <= longest // NEAR):
            return True
        result = try_one(replace(case, length=length))
        if result is None:
            return False
        if result.outcome == OK:
            longest = length
        else:
            failing = length
        if failing == step:  # even the shortest one does not
            return True
    return True


def _between(low: int, high: int, step: int) -> int:
    return (low + high) // 2 // step * step


def span_of(results: Iterable[Result]) -> tuple[int, Result | None]:
    """Of one curve: the longest length that ran (0: none), and the shortest longer one that did
    not.
    """
    known = list(results)
    longest = max((one.length for one in known if one.outcome == OK), default=0)
    beyond = [one for one in known if one.outcome != OK and one.length > longest]
    return longest, min(beyond, key=lambda one: one.length, default=None)


def planned_longest(results: Iterable[Result], memory_gib: float) -> int | None:
    """The length, in tokens, at which a rank of this curve is estimated to need `memory_gib`: on
    the line through the estimates of its two longest runs, above what their processes held before
    the network. None without a limit, or without two estimates.
    """
    known = sorted(
        (one for one in results if None not in (one.planned_gib, one.measured_gib, one.peak_gib)),
        key=lambda one: one.length,
    )
    if not memory_gib or len(known) < 2:
        return None
    low, high = known[-2:]
    planned = high.planned_gib or 0.0
    per_token = (planned - (low.planned_gib or 0.0)) / (high.length - low.length)
    before = (high.peak_gib or 0.0) - (high.measured_gib or 0.0)
    if per_token <= 0:
        return None
    return max(0, int(high.length + (memory_gib - before - planned) / per_token))
