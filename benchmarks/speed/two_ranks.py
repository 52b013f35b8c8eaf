"""Tokens a second of two ranks with one thread each over those of one rank with two threads.

fp32, 4 layers, hidden 256, 8 heads; the two ranks have a CPU's default layout, tensor parallel 2
with the sequence split, or what --flags says. The runs take turns. Bar: at least 0.85.
"""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from functools import partial

from benchmarks.start import SPLIT, Job, network, run
from benchmarks.table import Table
from benchmarks.timing import in_turn


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--flags", default=shlex.join(SPLIT), help="of the run on two ranks")


def _seconds(ranks: int, job: Job, threads: int) -> float:
    return run(ranks, job, threads).seconds


def main(options: Namespace) -> str:
    table = Table(
        ("tokens", ","), ("one/s", ".0f"), ("two/s", ".0f"), ("ratio", ".3f"), ("of pairs", "")
    )
    said = []
    for length in options.lengths:
        steps = max(4, 40960 // length)
        one = Job(network(length), steps, warm=1)
        two = Job(network(length, *shlex.split(options.flags)), steps, warm=1)
        pairs = in_turn(options.pairs, partial(_seconds, 1, one, 2), partial(_seconds, 2, two, 1))
        table.row(length, length / pairs.first, length / pairs.second, pairs.ratio, pairs.span)
        said.append(f"{pairs.ratio:.2f} at {length:,} tokens")
    return ", ".join(said)
