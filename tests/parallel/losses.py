"""Run under mpiexec: train each named case for some steps, print losses and gradient norms as JSON.

mpiexec -n 2 sh ALCF/rank.sh python tests/parallel/losses.py '{"tp2": ["--tensor-…", "2"]}'
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from longseq.config import arguments as settings
from longseq.config.arguments import Config
from longseq.config.checks import parse_config
from longseq.data.opening import open_data
from longseq.data.samples.curriculum import curriculum_of
from longseq.engine import nvme
from longseq.engine.engine import build_model, make_engine, start_distributed
from longseq.engine.optimizer import learning_rate, set_learning_rate
from longseq.parallel import mpi
from longseq.parallel.mesh import Mesh
from longseq.training.feed import Feed
from longseq.training.steps import forward_backward_step, mean_over_replicas

STEPS = 10
vars(settings).update(POSITION_UNIT=8)  # three blocks for the positions of 128 tokens
GENOME = str(Path(__file__).parents[2] / "data" / "NC_001416.1.fa")
COMMON = [
    *("--num-layers", "4", "--hidden-size", "256", "--num-attention-heads", "8"),
    *("--seq-length", "128", "--global-batch-size", "2", "--lr", "1e-4", "--lr-decay-style"),
    *("constant", "--device", "cpu", "--data-path", GENOME),
]


def train(config: Config) -> dict[str, list[float]]:
    """Losses and gradient norms (before clipping) of the first steps."""
    mesh = Mesh.create(config.layout)
    data = open_data(config.data, config.network.seq_length, config.training.seed)
    assert data.train is not None
    device = torch.device("cpu")
    feed = Feed(data.train, config, mesh, device)
    model = build_model(config, mesh, data.vocab_size, device)
    engine = make_engine(config, mesh, model)
    losses, norms = [], []
    for step in range(STEPS):
        set_learning_rate(engine.optimizer, learning_rate(step + 1, config.training))
        length = curriculum_of(config).length(step)
        batches = feed.step(step * config.global_batch_size, length)
        loss = forward_backward_step(engine, batches, forward_pass=step * config.accumulation)
        losses.append(float(mean_over_replicas(loss, config.accumulation, mesh)))
        norms.append(float(engine.get_global_grad_norm()))
    engine.destroy()
    nvme.release()
    return {"losses": losses, "norms": norms}


def run_cases(step: Callable[[Config], Any], common: list[str]) -> None:
    """Print what `step` gives for each case of the first argument, on top of `common` flags."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("LOCAL_SIZE", os.environ["WORLD_SIZE"])
    start_distributed(torch.device("cpu"))
    cases = json.loads(sys.argv[1])
    world = dist.get_world_size()
    results = {name: step(parse_config(common + flags, world)) for name, flags in cases.items()}
    if dist.get_rank() == 0:
        print(json.dumps(results), flush=True)
    dist.destroy_process_group()
    mpi.finish()


if __name__ == "__main__":
    run_cases(train, COMMON)
