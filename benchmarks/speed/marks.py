"""What it costs to measure the parts of a step, as a share of the step. Bar: under 1 %.

One rank with one thread, on a CPU, in CPU time, which other programs disturb less than the clock's.
"marks" is that of a step's marks alone, thousands of times in a row, over the step's; "pairs" is
steps with marks over steps without, in turn in one process: a check that nothing else comes with
them, as exact as CPU time is. Accumulation has the most marks: three for each micro batch.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from functools import partial

import torch

from benchmarks.start import network
from benchmarks.table import Table
from benchmarks.timing import in_turn, seconds
from benchmarks.worker import make_trainer, random_batches
from longseq.training.feed import MicroBatch
from longseq.training.parts import Parts
from longseq.training.trainer import Trainer

CALLS = 20_000


class Unmarked(Parts):
    """Marks that are not made."""

    def begin(self) -> None:
        pass

    def ended(self, part: str) -> None:
        pass

    def seconds(self) -> dict[str, float]:
        return {}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--tokens", type=int, nargs="+", default=[128])
    parser.add_argument("--accumulated", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--pairs", type=int, default=25)


def mark(parts: Parts, micro_batches: int) -> None:
    """All marks of a step, and the reading of them."""
    parts.begin()
    for _ in range(micro_batches):
        parts.ended("data")
        parts.ended("forward")
        parts.ended("backward")
    parts.ended("update")
    parts.seconds()


def step(trainer: Trainer, batches: list[MicroBatch], parts: Parts) -> None:
    """A step whose parts are measured so."""
    trainer.parts = parts
    trainer.step(batches)
    parts.seconds()


def main(options: Namespace) -> str:
    torch.set_num_threads(1)
    columns = ("step ms", ".2f"), ("marks us", ".1f"), ("marks/step", ".3%"), ("pairs", ".4f")
    table = Table(("tokens", ","), ("accumulated", ","), *columns, ("span", "<13"))
    shares, clock = [], time.process_time
    for tokens in options.tokens:
        for count in options.accumulated:
            flags = network(tokens, "--global-batch-size", str(count), "--micro-batch-size", "1")
            trainer = make_trainer(flags)
            batches = random_batches(trainer, tokens)
            ways = Parts(trainer.device), Unmarked(trainer.device)

            steps = [partial(step, trainer, batches, way) for way in ways]
            for one in steps:
                one()
            pairs = in_turn(options.pairs, *(partial(seconds, one, clock=clock) for one in steps))
            marks = seconds(partial(mark, Parts(trainer.device), count), CALLS, clock)
            shares.append(marks / pairs.second)
            table.row(
                tokens, count, 1e3 * pairs.second, 1e6 * marks, shares[-1], pairs.ratio, pairs.span
            )
            trainer.close()
    return f"{max(shares):.3%} at most"
