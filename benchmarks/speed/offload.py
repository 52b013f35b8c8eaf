"""Seconds a step with the optimizer in host memory over those without, in turn in one process.

One fp32 rank, 4 layers, two threads: DeepSpeedCPUAdam against torch's fused AdamW on the same
engine, by ZeRO stage. Bar: at most 1.3.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial

import torch

from benchmarks.start import network
from benchmarks.table import Table
from benchmarks.timing import in_turn, seconds
from benchmarks.worker import make_trainer, random_batches


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--stages", nargs="+", default=["1", "2", "3"])
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=9)


def main(options: Namespace) -> None:
    torch.set_num_threads(options.threads)
    table = Table(
        ("stage", ""), ("without", ".3f"), ("with", ".3f"), ("ratio", ".2f"), ("of pairs", "")
    )
    for stage in options.stages:
        steps = []
        for offload in ([], ["--cpu-optimizer"]):
            words = ["--zero-stage", stage, *offload]
            heads = options.hidden // 64
            trainer = make_trainer(
                network(options.tokens, *words, hidden=options.hidden, heads=heads)
            )
            steps.append(partial(trainer.step, random_batches(trainer, options.tokens)))
        plain, offloaded = steps
        plain(), offloaded(), plain(), offloaded()
        pairs = in_turn(options.pairs, partial(seconds, offloaded), partial(seconds, plain))
        table.row(stage, pairs.second, pairs.first, pairs.ratio, pairs.span)
