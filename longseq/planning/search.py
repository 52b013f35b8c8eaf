"""What would fit: layouts, ZeRO, offload and recomputation tried against the estimate.

    found, refused = suggest(request)    # every way, the fastest that fits first
    found, refused = longest(request)    # every way at its longest sequence, the longest first
    very_longest(request)                # the first of those alone, in a fifth of the time

A way is tried with the trainer's own checks, so that what they refuse (heads, divisibility, batch)
is no suggestion; its reason is kept. Standard library only.
"""

from __future__ import annotations

import gc
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter

from longseq.errors import UserError
from longseq.planning.plan import Plan, make_plan
from longseq.planning.ways import Choice, Request, layouts, ways

GRID = 1024  # a longest sequence is a multiple of it, and of what the ranks split it into
MOST = 1 << 34  # tokens: nobody has more
REACH = attrgetter("tokens", "speed")  # of a way: the longest, and of those the fastest
Tell = Callable[[int, int], None]  # so many of so many layouts were tried


def _silent(_done: int, _of: int) -> None:
    """Nobody looks on."""


@dataclass(frozen=True)
class Way:
    """A choice and its plan, at `tokens` of a sample."""

    choice: Choice
    plan: Plan
    tokens: int

    @property
    def speed(self) -> float:
        """Tokens a second of all ranks."""
        return self.plan.speed["tokens_per_second"]


def planned(request: Request, choice: Choice, tokens: int = 0, timed: bool = True) -> Way:
    """A choice with its plan; raises UserError for what the trainer would refuse."""
    config = choice.config(request, tokens)
    plan = make_plan(config, request.vocabulary, request.node, timed=timed)
    return Way(choice, plan, config.network.seq_length)


@contextmanager
def _without_circles() -> Iterator[None]:
    """Of tens of thousands of plans none refers to itself: looking for circles among them would
    take a fifth of the time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _layouts(request: Request, tell: Tell) -> Iterator[Choice]:
    """The layouts of `request`; tells how many of all are done."""
    every = list(layouts(request.ranks, request.groups[0].num_attention_heads))
    with _without_circles():
        for number, layout in enumerate(every):
            tell(number, len(every))
            yield layout
    tell(len(every), len(every))


def _each_way(
    request: Request, tell: Tell, for_length: bool, look: Callable[[Choice], None]
) -> dict[str, int]:
    """Let `look` see every way; on how many layouts it raised a UserError, by reason."""
    refused = Counter[str]()
    for layout in _layouts(request, tell):
        reasons = dict[str, None]()
        for choice in ways(layout, request, for_length):
            try:
                look(choice)
            except UserError as error:
                reasons[str(error)] = None
        refused.update(reasons.keys())
    return refused


def suggest(request: Request, tell: Tell = _silent) -> tuple[list[Way], dict[str, int]]:
    """Every way at the length asked for, those that fit first and the fastest of them first; and
    on how many layouts some were refused, by reason.
    """
    found: list[Way] = []

    def look(choice: Choice) -> None:
        found.append(planned(request, choice))
        if _between(found[-2:]):
            found.append(planned(request, replace(choice, recompute="auto")))

    refused = _each_way(request, tell, False, look)
    order = {"yes": 0, "close": 1, "no": 2}
    found.sort(key=lambda way: (order[way.plan.fits], _loss(way)))
    return found, refused


def _between(last: Sequence[Way]) -> bool:
    """It fits with all layers recomputed outside attention, and with none not: fewer may do."""
    fits = [way.plan.fits == "yes" for way in last]
    return last[-1].choice.recompute == "outside-attention" and fits == [False, True]


def _loss(way: Way) -> float:
    """What makes one way worse than another: slow if it fits, far from fitting if it does not."""
    return way.plan.fullness if way.plan.fits == "no" else -way.speed


def longest(request: Request, tell: Tell = _silent) -> tuple[list[Way], dict[str, int]]:
    """Every way at its longest sequence that fits, the longest first; and, where all were refused,
    on how many layouts, by reason.
    """
    tried: list[Way | None] = []
    refused = _each_way(request, tell, True, lambda way: tried.append(_longest(request, way)))
    found = sorted((way for way in tried if way), key=REACH, reverse=True)
    return found, {} if tried else refused


def very_longest(request: Request) -> Way | None:
    """The first of `longest`: no way that does not fit that far is searched."""
    best: Way | None = None

    def look(choice: Choice) -> None:
        nonlocal best
        way = _longest(request, choice, best.tokens if best else 0)
        best = max((one for one in (best, way) if one), key=REACH, default=None)

    _each_way(request, _silent, True, look)
    return best


def _longest(request: Request, choice: Choice, least: int = 0) -> Way | None:
    """The longest sequence of one way; None where the shortest that the data's flags allow, or
    `least` tokens, do not fit. Raises UserError.
    """
    data = request.groups[4]
    split = choice.ulysses * choice.ring * choice.tp * (2 if choice.ring > 1 else 1)
    unit = math.lcm(GRID, split)
    low = max(data.curriculum_seq_length, data.sample_overlap) // unit + 1
    at = partial(_fits, request, choice)
    if not at(low * unit) or not at(max(low, -(-least // unit)) * unit):
        return None
    high = 2 * low
    while high * unit < MOST and at(high * unit):
        low, high = high, 2 * high
    while high - low > max(1, low // 128):  # to 1 %, far nearer than the estimate is
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle * unit) else (low, middle)
    return planned(request, choice, low * unit)


def _fits(request: Request, choice: Choice, tokens: int) -> bool:
    return planned(request, choice, tokens, timed=False).plan.fits == "yes"


def pareto(found: Sequence[Way]) -> list[Way]:
    """Those ways than which no other is both longer and faster, the longest first."""
    best, fastest = [], 0.0
    for way in sorted(found, key=REACH, reverse=True):
        if way.speed > fastest:
            best.append(way)
            fastest = way.speed
    return best
