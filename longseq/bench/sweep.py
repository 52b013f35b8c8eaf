"""All cases of a bench, one after the other: progress, time left, what need not be run any more.

    done = sweep(cases, kept, run, Clock(within=1800), say)    # False where time ended it

A case is left for later where a shorter one of its curve ran out of memory or of time, and where
it would not end in the time that is left.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from longseq.bench.case import Case
from longseq.bench.kept import OK, OOM, TIMED_OUT, Kept, Result
from longseq.reports.format import duration, number, short

Run = Callable[[Case, float], Result | None]


@dataclass
class Clock:
    """Seconds that one case may take, and that all may; 0: any."""

    case: float
    within: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        return self.within - (time.monotonic() - self.began) if self.within else float("inf")


def sweep(
    cases: Sequence[Case], kept: Kept, run: Run, clock: Clock, say: Callable[[str], None]
) -> bool:
    """Run what is not known yet. False where time ran out before all of it."""
    passed_over = 0
    for place, case in enumerate(cases):
        if case.key in kept.found or beyond(case, kept.found.values()):
            continue
        rest = [c for c in cases[place + 1 :] if c.key not in kept.found]
        expected = expect(case, kept.found.values(), kept.steps)
        if clock.left <= 0 or (expected or 0) > clock.left:
            passed_over += 1
            continue
        say(f"[{place + 1}/{len(cases)}] {case.name}: {_about(expected)}")
        result = run(case, min(clock.case, clock.left))
        if result is None:
            raise KeyboardInterrupt
        if result.outcome == TIMED_OUT and clock.left <= 0:  # the bench's own end, not the case's
            passed_over += 1
            continue
        kept.add(result)
        say(f"{' ' * len(f'[{place + 1}/{len(cases)}]')} {told(result)}{_left(rest, kept)}")
    return passed_over == 0


def beyond(case: Case, found: Iterable[Result]) -> Result | None:
    """The shorter one of the same curve that ran out of memory or time, if any."""
    for one in found:
        same = (one.network, one.kernel, one.layout, one.ranks) == (
            case.network,
            case.kernel,
            case.layout.name,
            case.layout.ranks,
        )
        if same and one.length < case.length and one.outcome in (OOM, TIMED_OUT):
            return one
    return None


def expect(case: Case, found: Iterable[Result], steps: int) -> float | None:
    """Seconds that a case will take, from the nearest that ran; None before any has.

    steps: of each run. A step grows with a power of the length, as between the two nearest that
    ran; where there is one only, with the length itself.
    """
    ran = [one for one in found if one.seconds is not None and one.network == case.network]
    if not ran:
        return None
    start = statistics.median(max(0.0, o.wall_seconds - steps * (o.seconds or 0)) for o in ran)
    same = [one for one in ran if one.layout == case.layout.name and one.kernel == case.kernel]
    near = sorted(same or ran, key=lambda one: abs(one.length - case.length))
    growth = (case.length / near[0].length) ** _power(near)
    return start + steps * (near[0].seconds or 0) * growth


def _power(near: Sequence[Result]) -> float:
    """With which power of the length a step grows: from 1, linear maps, to 2, attention."""
    if len(near) < 2 or near[0].length == near[1].length:
        return 1.0
    times = (near[0].seconds or 0) / (near[1].seconds or 1)
    return min(2.0, max(1.0, math.log(times) / math.log(near[0].length / near[1].length)))


def told(result: Result) -> str:
    """A line about a result."""
    if result.outcome != OK:
        return f"{result.outcome}: {result.reason}"
    model = number(result.model_tflops, "{:.3g}")
    return (
        f"{number(result.seconds, '{:.3g}')} s, {short(result.tokens_per_sec)} tokens/s,"
        f" {number(result.tflops, '{:.3g}')} TFLOPS ({model} model),"
        f" {number(result.peak_gib, '{:.2f}')} GiB"
    )


def _about(seconds: float | None) -> str:
    return "started" if seconds is None else f"about {duration(seconds)}"


def _left(rest: Sequence[Case], kept: Kept) -> str:
    found = kept.found.values()
    known = [expect(case, found, kept.steps) for case in rest if not beyond(case, found)]
    if not known or None in known:
        return ""
    return f"; all others about {duration(sum(one or 0 for one in known))}"
