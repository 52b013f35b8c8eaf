"""How far a verb is and how long it will take, on stderr: a bar on a terminal, else a line a while.

with progress("scoring", total, ranks.rank) as advance:
    advance(done, "12,345 tokens")
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from longseq.reports.format import duration

EVERY = 30.0  # seconds between two lines in a file
Advance = Callable[[int, str], None]


@contextmanager
def progress(what: str, total: int, rank: int) -> Iterator[Advance]:
    """`advance(done, text)`: so many of `total` are done; only rank 0 says it."""
    if rank or not total:
        yield lambda _done, _text: None
    elif sys.stderr.isatty():
        yield from _bar(what, total)
    else:
        yield _lines(what, total)


def _bar(what: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what), BarColumn(), TextColumn("{task.percentage:3.0f}%"),
        TextColumn("{task.fields[told]}"), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, told="")
        yield lambda done, told: bar.update(task, completed=done, told=told)


def _lines(what: str, total: int) -> Advance:
    began = said = time.monotonic()

    def advance(done: int, told: str) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said < EVERY or not done:
            return
        said = now
        left = duration((now - began) / done * max(0, total - done))
        print(f"{what}: {done / total:.0%}, {told}, {left} left", file=sys.stderr, flush=True)

    return advance
