"""Bytes a parameter that each rank holds at ZeRO stages 0 to 3, bf16 Adam, against ZeRO's formula.

Measured between backward and step, when weights, gradients and optimizer state all exist (the
second step, as Adam's state comes with the first): the storages of all living tensors, and the
growth of resident memory since before the model. The formula is 2 + 2 + 12 bytes, each part over
the replicas from the stage on that cuts it up. Bar: within 10 %.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from benchmarks.start import Job, network, run
from benchmarks.table import Table

AXES = {
    "dp": (),
    "ulysses": ("--ds-sequence-parallel-size",),
    "ring": ("--context-parallel-size",),
}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--stages", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--axis", choices=AXES, default="dp")
    parser.add_argument("--hidden", type=int, default=768)


def formula(stage: int, ranks: int) -> float:
    """Bytes a parameter: weights cut from stage 3 on, gradients from 2, optimizer states from 1."""
    parts = (2, 3), (2, 2), (12, 1)
    return sum(size / (ranks if stage >= first else 1) for size, first in parts)


def main(options: Namespace) -> None:
    columns = ("tensors", ".2f"), ("ratio", ".2f"), ("resident", ".2f"), ("ratio", ".2f")
    table = Table(("stage", ""), ("formula", ".2f"), *columns)
    axis = [word for flag in AXES[options.axis] for word in (flag, str(options.ranks))]
    for stage in options.stages:
        flags = ["--bf16", "--zero-stage", str(stage), *axis]
        job = Job(network(256, *flags, layers=12, hidden=options.hidden), short=0, living=True)
        found = run(options.ranks, job)
        due = formula(stage, options.ranks)
        living = max(found.living_bytes) / found.parameters
        resident = max(found.living_gib) * 2**30 / found.parameters
        table.row(stage, due, living, living / due, resident, resident / due)
    print(f"bytes a parameter; {found.parameters:,} parameters")
