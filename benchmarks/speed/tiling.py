"""Layers recomputed in tiles over the same layers recomputed whole: seconds a step, in turn.

One fp32 rank with two threads, 4 layers, hidden 256, 8 heads. Bar: at most 1.05.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from benchmarks.start import FULL, Job, network, run
from benchmarks.table import Table
from benchmarks.timing import in_turn


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--tile", type=int, default=2048)
    parser.add_argument("--pairs", type=int, default=3)


def main(options: Namespace) -> str:
    def seconds(tile: int) -> float:
        flags = network(options.tokens, *FULL, "--tile-size", str(tile))
        return run(1, Job(flags, steps=2, warm=1), threads=2).seconds

    pairs = in_turn(options.pairs, lambda: seconds(options.tile), lambda: seconds(options.tokens))
    table = Table(
        ("tokens", ","),
        ("tiles, s", ".2f"),
        ("whole, s", ".2f"),
        ("ratio", ".3f"),
        ("of pairs", ""),
    )
    table.row(options.tokens, pairs.first, pairs.second, pairs.ratio, pairs.span)
    return f"{pairs.ratio:.2f} ({pairs.span})"
