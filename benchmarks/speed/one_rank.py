"""Tokens a second of one rank over a plain PyTorch loop's (anchors/plain.py), in turn.

Both train the same network (4 layers, 8 heads, rotary, tied head of 128 rows) in fp32 in one
process with the same kernels, AdamW and clipping. Bar: at least 0.95 at each length.

--offload instead: seconds of ours with DeepSpeedCPUAdam over those with torch's fused AdamW, on the
same engine, by ZeRO stage. Bar: at most 1.3.
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
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--offload", type=int, nargs="+", metavar="STAGE", help="at these stages")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=9)


def our_step(length: int, hidden: int, *flags: str) -> Callable[[Tensor], float]:
    """A step of ours for tokens [1, length + 1]."""
    trainer = make_trainer(network(length, *flags, hidden=hidden, heads=8), VOCABULARY)
    positions, weights = torch.arange(length)[None], torch.full((1, length), 1 / length)

    def step(tokens: Tensor) -> float:
        batch = MicroBatch(tokens[:, :-1], tokens[:, 1:], weights, positions, None)
        return trainer.step([batch]).loss

    return step


def their_step(hidden: int) -> Callable[[Tensor], float]:
    """A step of the plain loop."""
    plain = Plain(4, hidden, 8, 128)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, fused=True)
    return partial(plain_step, plain, optimizer)


def main(options: Namespace) -> str:
    torch.set_num_threads(options.threads)
    columns = ("first/s", ".0f"), ("second/s", ".0f"), ("ratio", ".3f"), ("of pairs", "<12")
    table = Table(("over", "<13"), ("tokens", ","), *columns)
    hidden, said = options.hidden, []
    for length in options.lengths:
        for stage in options.offload or [None]:
            if stage is None:
                name, steps = "plain PyTorch", (their_step(hidden), our_step(length, hidden))
            else:
                name, flags = f"stage {stage}", ("--zero-stage", str(stage))
                offloaded = our_step(length, hidden, *flags, "--cpu-optimizer")
                steps = offloaded, our_step(length, hidden, *flags)
            tokens = torch.randint(0, VOCABULARY, (1, length + 1))
            for step in (*steps, *steps):
                step(tokens)
            count = max(1, 8192 // length)
            pairs = in_turn(
                options.pairs, *(partial(seconds, partial(step, tokens), count) for step in steps)
            )
            speeds = length / pairs.first, length / pairs.second
            table.row(name, length, *speeds, pairs.ratio, pairs.span)
            where = f"{name}, " if stage is not None else ""
            said.append(f"{pairs.ratio:.2f} at {where}{length:,} tokens")
    return ", ".join(said)
