"""Tokens a second of one rank over a plain PyTorch loop's (anchors/plain.py), in turn.

Both train the same network (4 layers, hidden 256, 8 heads, rotary, tied head of 128 rows) in fp32
in one process with the same kernels, AdamW and clipping. Bar: at least 0.95 at each length.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.anchors.plain import Plain, plain_step
from benchmarks.start import network
from benchmarks.table import Table
from benchmarks.timing import in_turn, seconds
from benchmarks.worker import make_trainer
from longseq.training.feed import MicroBatch

VOCABULARY = 16


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=9)


def our_step(length: int) -> Callable[[Tensor], float]:
    """A step of ours for tokens [1, length + 1]."""
    trainer = make_trainer(network(length), VOCABULARY)
    positions, weights = torch.arange(length)[None], torch.full((1, length), 1 / length)

    def step(tokens: Tensor) -> float:
        batch = MicroBatch(tokens[:, :-1], tokens[:, 1:], weights, positions, None)
        return trainer.step([batch]).loss

    return step


def main(options: Namespace) -> str:
    torch.set_num_threads(options.threads)
    table = Table(
        ("tokens", ","), ("plain/s", ".0f"), ("ours/s", ".0f"), ("ratio", ".3f"), ("of pairs", "")
    )
    said = []
    for length in options.lengths:
        tokens = torch.randint(0, VOCABULARY, (1, length + 1))
        plain = Plain(4, 256, 8, 128)
        optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, fused=True)
        theirs, ours = (
            partial(plain_step, plain, optimizer, tokens),
            partial(our_step(length), tokens),
        )
        for step in (theirs, ours, theirs, ours):
            step()
        count = max(1, 8192 // length)
        pairs = in_turn(
            options.pairs, partial(seconds, theirs, count), partial(seconds, ours, count)
        )
        table.row(length, length / pairs.first, length / pairs.second, pairs.ratio, pairs.span)
        said.append(f"{pairs.ratio:.2f} at {length:,} tokens")
    return ", ".join(said)
