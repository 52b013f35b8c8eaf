"""Run under mpiexec: train each named case for some steps, print losses and gradient norms as JSON.

mpiexec -n 2 sh ALCF/rank.sh python tests/parallel/losses.py '{"tp2": ["--tensor-…", "2"]}' [STEPS]
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from longseq.config import network
from longseq.config.arguments import Config
from longseq.config.checks import parse_config
from longseq.data.opening import open_data
from longseq.data.samples.curriculum import curriculum_of
from longseq.engine.distributed import start_distributed, stop_distributed
from longseq.training.feed import Feed
from longseq.training.trainer import Trainer

STEPS = 10
GENOME = str(Path(__file__).parents[2] / "data" / "NC_001416.1.fa")
COMMON = [
    *("--num-layers", "4", "--hidden-size", "64", "--num-attention-heads", "8"),
    *("--seq-length", "128", "--global-batch-size", "2", "--lr", "1e-4", "--lr-decay-style"),
    *("constant", "--device", "cpu", "--data-path", GENOME),
]


def make_trainer(config: Config) -> tuple[Trainer, Feed]:
    """A trainer on this rank, and its training data."""
    data = open_data(config.data, config.network.seq_length, config.training.seed)
    assert data.train is not None
    trainer = Trainer(config, data.vocab_size)
    return trainer, Feed(data.train, config, trainer.mesh, trainer.device)


def train(config: Config, steps: int) -> dict[str, list[float]]:
    """Losses and gradient norms (before clipping) of the first steps."""
    trainer, feed = make_trainer(config)
    with trainer:
        lengths = curriculum_of(config)
        results = [
            trainer.step(feed.step(trainer.consumed_samples, lengths.length(number)))
            for number in range(1, steps + 1)
        ]
    return {"losses": [r.loss for r in results], "norms": [r.grad_norm for r in results]}


def run_cases(step: Callable[[Config], Any], common: list[str]) -> None:
    """Print what `step` gives for each case of the first argument, on top of `common` flags."""
    warnings.simplefilter("ignore")
    vars(network).update(POSITION_UNIT=8)  # three blocks for the positions of 128 tokens
    os.environ.setdefault("LOCAL_SIZE", os.environ["WORLD_SIZE"])
    start_distributed(torch.device("cpu"))
    cases = json.loads(sys.argv[1])
    world = dist.get_world_size()
    results = {name: step(parse_config(common + flags, world)) for name, flags in cases.items()}
    if dist.get_rank() == 0:
        print(json.dumps(results), flush=True)
    stop_distributed()


if __name__ == "__main__":
    run_cases(partial(train, steps=int(sys.argv[2]) if sys.argv[2:] else STEPS), COMMON)
