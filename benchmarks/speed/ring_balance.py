"""The ring's balance over documents of random lengths: pairs of tokens that each rank looks at.

The busiest rank over the mean of the ranks, median and worst of some trials with exponential
lengths, for the chunks that the ring cuts and for two chunks a rank, as it cuts without documents.
Counted from the positions that a rank holds, not timed.
"""

from __future__ import annotations

import random
import statistics
from argparse import ArgumentParser, Namespace

import numpy as np

from benchmarks.table import Table
from longseq.attention.zigzag import ring_periods, ring_spans


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--tokens", type=int, default=65536)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--trials", type=int, default=20)


def random_ends(draw: random.Random, tokens: int, mean: int) -> list[int]:
    """Ends of documents whose lengths are exponential around `mean`."""
    ends, at = [], 0
    while at < tokens:
        at += max(1, int(draw.expovariate(1 / mean)))
        ends.append(min(at, tokens))
    return ends


def imbalance(tokens: int, size: int, periods: int, ends: list[int]) -> float:
    """The busiest rank's pairs over the mean: a token looks at those of its document up to it."""
    starts = np.repeat([0, *ends[:-1]], np.diff([0, *ends]))
    looks = np.arange(tokens) - starts + 1
    work = [
        sum(int(looks[start:stop].sum()) for start, stop in ring_spans(tokens, rank, size, periods))
        for rank in range(size)
    ]
    return max(work) / statistics.mean(work)


def main(options: Namespace) -> None:
    tokens = options.tokens
    columns = ("median", ".2f"), ("worst", ".2f"), ("2 chunks, median", ".2f"), ("worst", ".2f")
    table = Table(("ring", ""), ("mean length", ","), *columns)
    for size in options.ranks:
        for mean in (tokens // 256, tokens // 32, tokens // 8, tokens // 2):
            found: list[float] = []
            for periods in (ring_periods(tokens, size, True), 1):
                draw = random.Random(1)
                trials = [
                    imbalance(tokens, size, periods, random_ends(draw, tokens, mean))
                    for _ in range(options.trials)
                ]
                found += [statistics.median(trials), max(trials)]
            table.row(size, mean, *found)
