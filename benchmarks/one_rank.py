"""Tokens a second of one rank of longseq over a plain PyTorch loop's, in turn in one process.

    python benchmarks/one_rank.py [--lengths 512,2048,8192] [--threads 2] [--repeats 9]

Both train the same network (4 layers, hidden 256, 8 heads, rotary, tied head of 128 rows) in fp32
with the same kernels, AdamW and clipping. Bar: at least 0.95 at each length.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks.plain import Plain, plain_step  # noqa: E402
from longseq.config.checks import parse_config  # noqa: E402
from longseq.engine.distributed import start_distributed  # noqa: E402
from longseq.training.feed import MicroBatch  # noqa: E402
from longseq.training.trainer import Trainer  # noqa: E402

NETWORK = ["--num-layers", "4", "--hidden-size", "256", "--num-attention-heads", "8"]
VOCABULARY = 16


def our_step(length: int) -> Callable[[torch.Tensor], float]:
    """A step of ours for tokens [1, length + 1]."""
    flags = [*NETWORK, "--seq-length", str(length), "--use-rotary-position-embeddings"]
    config = parse_config([*flags, "--use-flash-attn-sdpa", "--lr", "1e-3", "--device", "cpu"], 1)
    trainer = Trainer(config, VOCABULARY)
    positions, weights = torch.arange(length)[None], torch.full((1, length), 1 / length)

    def step(tokens: torch.Tensor) -> float:
        batch = MicroBatch(tokens[:, :-1], tokens[:, 1:], weights, positions, None)
        return trainer.step([batch]).loss

    return step


def seconds(step: Callable[[torch.Tensor], float], tokens: torch.Tensor, count: int) -> float:
    """Seconds a step, over `count` steps."""
    began = time.perf_counter()
    for _ in range(count):
        step(tokens)
    return (time.perf_counter() - began) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", default="512,2048,8192")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_SIZE="1")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=os.environ.get("MASTER_PORT", "29731"))
    start_distributed(torch.device("cpu"))
    print(f"{'tokens':>7} {'plain/s':>9} {'ours/s':>9} {'ratio':>6} {'of pairs':>15}")
    for length in (int(text) for text in args.lengths.split(",")):
        tokens = torch.randint(0, VOCABULARY, (1, length + 1))
        plain = Plain(4, 256, 8, 128)
        optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, fused=True)
        ours = our_step(length)
        count = max(1, 8192 // length)

        theirs = partial(plain_step, plain, optimizer)
        seconds(theirs, tokens, 2)
        seconds(ours, tokens, 2)
        pairs = [
            (seconds(theirs, tokens, count), seconds(ours, tokens, count))
            for _ in range(args.repeats)
        ]
        ratios = sorted(a / b for a, b in pairs)
        a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
        span = f"{ratios[0]:.3f}–{ratios[-1]:.3f}"
        print(
            f"{length:>7} {length / a:>9.0f} {length / b:>9.0f}"
            f" {statistics.median(ratios):>6.3f} {span:>15}",
            flush=True,
        )


if __name__ == "__main__":
    main()
