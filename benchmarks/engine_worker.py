"""Run under mpiexec by engine_table.py: each named case for ten steps, one after the other.

    mpiexec -n 2 sh ALCF/rank.sh python benchmarks/engine_worker.py '{"case": ["--bf16"]}'

Prints JSON: losses, gradient norms, seconds a step and the growth of resident memory (MiB, the
largest of the ranks), or the sentence of the refusal.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from longseq.config.arguments import Config  # noqa: E402
from longseq.config.checks import parse_config  # noqa: E402
from longseq.data.opening import open_data  # noqa: E402
from longseq.engine import nvme  # noqa: E402
from longseq.engine.distributed import start_distributed, stop_distributed  # noqa: E402
from longseq.errors import UserError  # noqa: E402
from longseq.host.host_memory import peak_resident_gib, reset_peak, resident_gib  # noqa: E402
from longseq.training.feed import Feed  # noqa: E402
from longseq.training.trainer import Trainer  # noqa: E402

STEPS = 10
COMMON = [
    *("--num-layers", "4", "--hidden-size", "256", "--num-attention-heads", "8", "--seq-length"),
    *("128", "--global-batch-size", "2", "--lr", "1e-4", "--lr-decay-style", "constant"),
    *("--device", "cpu", "--data-path", str(ROOT / "data" / "NC_001416.1.fa")),
    *("--use-rotary-position-embeddings", "--use-flash-attn-sdpa"),
]
CPU = torch.device("cpu")


def train(config: Config) -> dict[str, Any]:
    """Ten steps of one case."""
    data = open_data(config.data, config.network.seq_length, config.training.seed)
    assert data.train is not None
    reset_peak()
    before = resident_gib()
    trainer = Trainer(config, data.vocab_size)
    feed = Feed(data.train, config, trainer.mesh, CPU)
    losses, norms, times = [], [], []
    for _ in range(STEPS):
        dist.barrier()
        began = time.perf_counter()
        result = trainer.step(feed.step(trainer.consumed_samples))
        losses.append(result.loss)
        norms.append(result.grad_norm)
        times.append(time.perf_counter() - began)
    grown = max(trainer.ranks.gather(peak_resident_gib() - before))
    trainer.close()
    return {
        "losses": losses,
        "norms": norms,
        "seconds": statistics.median(times[2:]),
        "mib": 1024 * grown,
    }


def main() -> None:
    warnings.simplefilter("ignore")
    os.environ.setdefault("LOCAL_SIZE", os.environ["WORLD_SIZE"])
    start_distributed(CPU)
    results: dict[str, Any] = {}
    for name, flags in json.loads(sys.argv[1]).items():
        try:
            results[name] = train(parse_config(COMMON + flags, dist.get_world_size()))
        except UserError as error:
            results[name] = {"refused": str(error)}
        nvme.release()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # so that the next case starts from the same memory
    if dist.get_rank() == 0:
        print(json.dumps(results), flush=True)
    stop_distributed()


if __name__ == "__main__":
    main()
