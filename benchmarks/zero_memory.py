"""Bytes a parameter that each rank holds at ZeRO stages 0-3, bf16 Adam, against ZeRO's formula.

    python benchmarks/zero_memory.py [--stages 0,1,2,3] [--ranks 2] [--axis dp|ulysses|ring]

Measured between backward and step, when weights, gradients and optimizer state all exist (the
second step, as Adam's state comes with the first): the storages of all living tensors, and the
growth of resident memory since before the model. The formula is 2 + 2 + 12 bytes, each part over
the replicas from the stage on that cuts it up. Bar: within 10 %.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.two_ranks import start  # noqa: E402

AXES = {
    "dp": [],
    "ulysses": ["--ds-sequence-parallel-size"],
    "ring": ["--context-parallel-size"],
}
NETWORK = (
    "--num-layers 12 --hidden-size 768 --num-attention-heads 8 --seq-length 256 --device cpu"
    " --use-rotary-position-embeddings --use-flash-attn-sdpa --bf16"
).split()


def living_bytes(model: Any) -> int:
    """Bytes in storages of all living tensors; a gradient may have no Python object yet."""
    import torch

    grads = [p.grad for p in model.parameters() if p.grad is not None]
    found = {}
    for thing in [*gc.get_objects(), *grads]:
        if isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
            storage = thing.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def worker(flags: list[str]) -> None:
    """One rank: two steps, and what lives before the second update."""
    import deepspeed  # noqa: F401  # its memory is not the model's
    import torch
    import torch.distributed as dist

    from benchmarks.worker import VOCABULARY, random_batches
    from longseq.config.checks import parse_config
    from longseq.engine.distributed import start_distributed, stop_distributed
    from longseq.host.host_memory import resident_gib
    from longseq.parallel.mesh import Mesh
    from longseq.training.trainer import Trainer

    warnings.simplefilter("ignore")
    os.environ.setdefault("LOCAL_SIZE", os.environ["WORLD_SIZE"])
    config = parse_config([*NETWORK, *flags], int(os.environ["WORLD_SIZE"]))
    device = torch.device("cpu")
    start_distributed(device)
    mesh = Mesh.create(config.layout)
    batches = random_batches(config, mesh, config.network.seq_length)
    before, other = resident_gib(), living_bytes(torch.nn.Module())
    trainer = Trainer(config, VOCABULARY)
    count = sum(getattr(p, "ds_numel", p.numel()) for p in trainer.model.parameters())
    trainer.step(batches)
    trainer.forward_backward(batches)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    living = (living_bytes(trainer.model) - other) / count
    resident = (resident_gib() - before) * 2**30 / count
    found = trainer.ranks.gather((living, resident))
    if dist.get_rank() == 0:
        print(json.dumps({"parameters": count, "ranks": found}), flush=True)
    stop_distributed()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", default="0,1,2,3")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--axis", default="dp", choices=tuple(AXES))
    args, flags = parser.parse_known_args()
    n = args.ranks
    axis = [*AXES[args.axis], *([str(n)] if AXES[args.axis] else [])]
    print(f"{'stage':>5} {'formula':>8} {'tensors':>8} {'ratio':>6} {'resident':>9} {'ratio':>6}")
    for stage in (int(text) for text in args.stages.split(",")):
        parts = [size / (n if stage >= first else 1) for size, first in ((2, 3), (2, 2), (12, 1))]
        formula = sum(parts)
        words = ["worker", "--zero-stage", str(stage), *axis, *flags]
        found = start(n, 1, "zero_memory.py", words, DS_ACCELERATOR="cpu")
        living, resident = (max(column) for column in zip(*found["ranks"], strict=True))
        print(
            f"{stage:>5} {formula:>8.2f} {living:>8.2f} {living / formula:>6.2f}"
            f" {resident:>9.2f} {resident / formula:>6.2f}",
            flush=True,
        )
    print(f"bytes a parameter; {found['parameters']:,} parameters")


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(sys.argv[2:])
    else:
        main()
