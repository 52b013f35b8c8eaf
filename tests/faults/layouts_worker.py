"""Run under mpiexec: trainings that save on one layout and go on on another; prints JSON.

The argument lists them: {"name": …, "flags": …, "steps": 5, "save": FOLDER, "at": 3}, or "load";
{"command": ["checkpoint", "convert", …]} is a verb of ./longseq.sh, on rank 0.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

import torch

from longseq import __main__ as longseq
from longseq.checkpoint.run_checkpoints import RunCheckpoints
from longseq.config import network
from longseq.config.checks import parse_config
from longseq.data.opening import open_data
from longseq.engine.distributed import start_distributed, stop_distributed
from longseq.parallel.agreement import torch_ranks
from longseq.training.feed import Feed
from longseq.training.trainer import Trainer
from tests.parallel.losses import GENOME

COMMON = (
    "--num-layers 2 --hidden-size 64 --num-attention-heads 4 --seq-length 64 --device cpu"
    " --use-flash-attn-sdpa"
    f" --global-batch-size 4 --lr 1e-3 --lr-decay-style constant --data-path {GENOME}"
)


def train(flags: str, steps: int, at: int) -> dict[str, Any]:
    """The loss of each iteration, and what the loss of the first validation batch is at its end."""
    config = parse_config([*COMMON.split(), *flags.split()], int(os.environ["WORLD_SIZE"]))
    data = open_data(config.data, config.network.seq_length, config.training.seed)
    assert data.train is not None
    losses: dict[str, float] = {}
    with Trainer(config, data.vocab_size) as trainer:
        kept = RunCheckpoints(config, data, trainer.engine, trainer.mesh, trainer.ranks)
        trainer.resume(kept.load(print) or trainer.progress())
        kept.claim(print)
        feed = Feed(data.train, config, trainer.mesh, trainer.device)
        while trainer.iteration < steps:
            loss = trainer.step(feed.step(trainer.consumed_samples)).loss
            losses[str(trainer.iteration)] = loss
            kept.advance()
            if trainer.iteration == at:
                kept.save(trainer.progress(), {})
        kept.finish()
        kept.close()
    return losses


def main() -> None:
    vars(network).update(POSITION_UNIT=8)  # several blocks of learned positions
    warnings.simplefilter("ignore")
    start_distributed(torch.device("cpu"))
    done = {}
    for job in json.loads(sys.argv[1]):
        if "command" in job:
            code = longseq.main(job["command"]) if os.environ["RANK"] == "0" else 0
            assert not any(torch_ranks().gather(code)), job["command"]
            continue
        places = "".join(f" --{name} {job[name]}" for name in ("save", "load") if name in job)
        done[job["name"]] = train(job["flags"] + places, job["steps"], job.get("at", 0))
    if os.environ["RANK"] == "0":
        print(json.dumps(done), flush=True)
    stop_distributed()


if __name__ == "__main__":
    main()
