"""One process group, some steps, their median time: what the benchmarks start under mpiexec.

    mpiexec -n 2 sh ALCF/rank.sh python benchmarks/worker.py STEPS FLAGS…

Rank 0 prints one JSON object: seconds a step (median), losses, and for every rank the resident GiB
after a step on 512 tokens (`base_gib`) and at the peak of the steps that follow (`peak_gib`).

BENCHMARK_VOCABULARY is the size of the vocabulary; BENCHMARK_SAVINGS=torch recomputes layers by
torch.utils.checkpoint and makes all logits at once, as a plain PyTorch program does; `none` makes
all logits at once. BENCHMARK_LIMIT_GIB ends the run with exit code 3 when a rank needs more.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore", category=FutureWarning)
sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

from longseq.attention.zigzag import held_spans  # noqa: E402
from longseq.config.arguments import Config  # noqa: E402
from longseq.config.checks import parse_config  # noqa: E402
from longseq.engine.distributed import start_distributed, stop_distributed  # noqa: E402
from longseq.engine.recompute import in_groups  # noqa: E402
from longseq.host.host_memory import (  # noqa: E402
    peak_resident_gib,
    reset_peak,
    resident_gib,
)
from longseq.model import loss as head_loss  # noqa: E402
from longseq.model.layers import as_written  # noqa: E402
from longseq.parallel import ring  # noqa: E402
from longseq.parallel.mesh import Mesh  # noqa: E402
from longseq.run.abort import tell_launcher  # noqa: E402
from longseq.training.feed import MicroBatch  # noqa: E402
from longseq.training.trainer import Trainer  # noqa: E402

VOCABULARY = int(os.environ.get("BENCHMARK_VOCABULARY", "16"))


SAVINGS = os.environ.get("BENCHMARK_SAVINGS", "longseq")
LIMIT_GIB = float(os.environ.get("BENCHMARK_LIMIT_GIB", "inf"))
DOCUMENT = int(os.environ.get("BENCHMARK_DOCUMENT", "0"))
SHORT = 512
TOO_LARGE = 3


def random_batches(config: Config, mesh: Mesh, s: int) -> list[MicroBatch]:
    """The same random tokens in every step; each data-parallel rank its own."""
    b = config.training.micro_batch_size
    generator = torch.Generator().manual_seed(1 + mesh.dp.rank)
    tokens = torch.randint(0, VOCABULARY, (b, s + 1), generator=generator)
    axes = mesh.ulysses, mesh.ring
    ulysses, ring_ = ((axis.rank, axis.size) for axis in axes)
    spans = held_spans(s, ulysses, ring_, documents=DOCUMENT > 0)
    at = torch.cat([torch.arange(low, high) for low, high in spans])
    weights = torch.full((b, len(at)), mesh.sequence.size / (s * b))
    documents = ((*range(DOCUMENT, s, DOCUMENT), s),) * b if DOCUMENT else None
    batch = MicroBatch(tokens[:, at], tokens[:, at + 1], weights, at[None], documents)
    return [batch] * config.accumulation


def plainly(model: Any) -> None:
    """Take the savings out: torch's own recomputation, and logits of all tokens."""
    if SAVINGS == "longseq":
        return
    head_loss.TILE_BYTES["cpu"] = head_loss.TILE_TOKENS = 1 << 60
    if SAVINGS == "torch":
        for layer in model.layers:
            layer.run = as_written
        model.run_layers = partial(in_groups, 1)


def timed_blocks() -> list[float]:
    """Measure what the ring's blocks take, without the waits between them; one sum, in seconds."""
    taken = [0.0]

    def timed(function: Any) -> Any:
        def call(*args: Any) -> Any:
            began = time.perf_counter()
            result = function(*args)
            taken[0] += time.perf_counter() - began
            return result

        return call

    names = vars(ring)
    for name in ("block_forward", "block_backward"):
        names[name] = timed(names[name])
    return taken


def watch() -> None:
    """End this rank when it takes more than it may."""
    while True:
        time.sleep(0.05)
        if resident_gib() > LIMIT_GIB:
            tell_launcher(TOO_LARGE)
            os._exit(TOO_LARGE)


def main() -> None:
    steps, flags = int(sys.argv[1]), sys.argv[2:]
    for name, alone in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")):
        os.environ.setdefault(name, alone)
    os.environ.setdefault("LOCAL_SIZE", os.environ["WORLD_SIZE"])
    config = parse_config([*flags, "--device", "cpu"], int(os.environ["WORLD_SIZE"]))
    device = torch.device("cpu")
    start_distributed(device)
    trainer = Trainer(config, VOCABULARY)
    mesh, ranks = trainer.mesh, trainer.ranks
    plainly(trainer.model)
    trainer.step(random_batches(config, mesh, SHORT))
    reset_peak()
    bases = ranks.gather(resident_gib())
    if float("inf") > LIMIT_GIB:
        threading.Thread(target=watch, daemon=True).start()
    batches = random_batches(config, mesh, config.network.seq_length)
    blocks = timed_blocks()
    times, losses = [], []
    for _ in range(max(steps, 1) + (steps > 0)):
        dist.barrier()
        began = time.perf_counter()
        losses.append(trainer.step(batches).loss)
        dist.barrier()
        times.append(time.perf_counter() - began)
    peaks = ranks.gather(peak_resident_gib())
    ring_seconds = ranks.gather(blocks[0])
    if dist.get_rank() == 0:
        seconds = statistics.median(times[1:] or times)
        found = {"seconds": seconds, "losses": losses, "base_gib": bases, "peak_gib": peaks}
        if mesh.ring.size > 1:
            found["ring_seconds"] = ring_seconds
        print(json.dumps(found), flush=True)
    stop_distributed()


if __name__ == "__main__":
    main()
