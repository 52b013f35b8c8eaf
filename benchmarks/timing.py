"""How long something takes, and two things in turn, so that what else the machine does hits both.

pairs = in_turn(9, lambda: seconds(ours), lambda: seconds(theirs))
pairs.ratio, pairs.span, pairs.first          # medians of first / second, and of the first
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]


def seconds(act: Callable[[], object], count: int = 1, clock: Clock = time.perf_counter) -> float:
    """Mean time of one of `count` calls; clock=time.process_time is that of all threads."""
    began = clock()
    for _ in range(count):
        act()
    return (clock() - began) / count


def best_of(act: Callable[[], object], count: int = 3, clock: Clock = time.perf_counter) -> float:
    """The fastest of `count` calls; fewer where they take long."""
    times: list[float] = []
    while len(times) < count and sum(times) < 5:
        times.append(seconds(act, clock=clock))
    return min(times)


@dataclass(frozen=True)
class Pairs:
    """Measurements of two things, taken in turn."""

    firsts: list[float]
    seconds: list[float]

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.firsts, self.seconds, strict=True)]

    @property
    def first(self) -> float:
        return statistics.median(self.firsts)

    @property
    def second(self) -> float:
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def span(self) -> str:
        return f"{min(self.ratios):.3f}–{max(self.ratios):.3f}"


def in_turn(count: int, first: Callable[[], float], second: Callable[[], float]) -> Pairs:
    """Measure first, second, first, second, …: `count` pairs."""
    pairs = [(first(), second()) for _ in range(count)]
    return Pairs([a for a, _ in pairs], [b for _, b in pairs])
