"""One rank of sharing.py: trains every case for some steps; rank 0 prints a line of JSON for each.

The argument is JSON: {"device": "cuda", "backend": "gloo", "cases": {"tp, fp32": ["--…"]}}.
RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT as for any rank.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

import torch
import torch.distributed as dist

from longseq.config.checks import parse_config
from longseq.engine.distributed import stop_distributed
from longseq.errors import UserError
from tests.gpu.staged import stage
from tests.parallel.losses import make_trainer

STEPS = 4


def train(flags: list[str]) -> dict[str, Any]:
    """Losses and gradient norms of the first steps, or the sentence of a refusal."""
    try:
        config = parse_config(flags, dist.get_world_size())
    except UserError as error:  # the same on all ranks
        return {"refused": str(error)}
    trainer, feed = make_trainer(config)
    with trainer:
        steps = [trainer.step(feed.step(trainer.consumed_samples)) for _ in range(STEPS)]
    return {"losses": [s.loss for s in steps], "norms": [s.grad_norm for s in steps]}


def main() -> None:
    warnings.simplefilter("ignore")
    asked = json.loads(sys.argv[1])
    on_cpu = asked["device"] == "cpu"
    torch.backends.cuda.matmul.allow_tf32 = False
    if not on_cpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(asked["backend"])
    if asked["backend"] == "gloo":  # on a CPU the copies are made for nothing, to test them
        stage(lambda x: on_cpu or x.is_cuda)
    for name, flags in asked["cases"].items():
        found = train(flags)
        if dist.get_rank() == 0:
            print(json.dumps({"case": name, **found}), flush=True)
    stop_distributed()


if __name__ == "__main__":
    main()
