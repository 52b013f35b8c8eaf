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
from longseq.engine.engine import build_model, make_engine, start_distributed  # noqa: E402
from longseq.engine.optimizer import learning_rate, set_learning_rate  # noqa: E402
from longseq.errors import UserError  # noqa: E402
from longseq.host.host_memory import peak_resident_gib, reset_peak, resident_gib  # noqa: E402
from longseq.parallel import mpi  # noqa: E402
from longseq.parallel.agreement import torch_ranks  # noqa: E402
from longseq.parallel.mesh import Mesh  # noqa: E402
from longseq.training.feed import Feed  # noqa: E402
from longseq.training.steps import forward_backward_step, mean_over_replicas  # noqa: E402

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
    mesh = Mesh.create(config.layout)
    data = open_data(config.data, config.network.seq_length, config.training.seed)
    assert data.train is not None
    feed = Feed(data.train, config, mesh, CPU)
    reset_peak()
    before = resident_gib()
    model = build_model(config, mesh, data.vocab_size, CPU)
    engine = make_engine(config, mesh, model)
    losses, norms, times = [], [], []
    for step in range(STEPS):
        dist.barrier()
        began = time.perf_counter()
        set_learning_rate(engine.optimizer, learning_rate(step + 1, config.training))
        batches = feed.step(step * config.global_batch_size)
        loss = forward_backward_step(engine, batches, forward_pass=step * config.accumulation)
        losses.append(float(mean_over_replicas(loss, config.accumulation, mesh)))
        norms.append(float(engine.get_global_grad_norm()))
        times.append(time.perf_counter() - began)
    grown = max(torch_ranks().gather(peak_resident_gib() - before))
    engine.destroy()
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
    dist.destroy_process_group()
    mpi.finish()


if __name__ == "__main__":
    main()
