"""What benchmarks start as ranks: the steps of each job of the first argument, on a CPU.

Rank 0 prints what start.py's `Found` holds, by the jobs' names. A job that the flags' checks refuse
is named with the refusal; a rank that needs more memory than `limit_gib` ends all, exit code 3.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.start import TOO_LARGE, Found, Job, rank
from longseq.attention.zigzag import held_spans
from longseq.config.arguments import Config
from longseq.config.checks import parse_config
from longseq.data.opening import open_data
from longseq.engine.distributed import start_distributed, stop_distributed
from longseq.engine.network.recompute import in_groups
from longseq.errors import UserError
from longseq.host.host_memory import peak_resident_gib, reset_peak, resident_gib
from longseq.memory.allocator import give_back_large
from longseq.memory.recompute_policy import asked
from longseq.model import head_tiles
from longseq.model.layers import as_written
from longseq.parallel import ring
from longseq.run.safety.abort import tell_launcher
from longseq.training.feed import Feed, MicroBatch
from longseq.training.trainer import Trainer

MCL_CURRENT, MCL_ONFAULT = 1, 4  # mlockall(2)
TILES = 1 << 16  # bytes: those of tiles are given back at once as well, and leave no holes


def make_trainer(flags: list[str], vocabulary: int = 16) -> Trainer:
    """A trainer on CPU ranks that recomputes what the flags say and nothing else."""
    config = config_of(flags)
    return Trainer(config, vocabulary, torch.device("cpu"), asked(config))


def config_of(flags: list[str]) -> Config:
    return parse_config([*flags, "--device", "cpu"], int(os.environ.get("WORLD_SIZE", "1")))


def genome_feed(flags: list[str]) -> tuple[Trainer, Feed]:
    """A trainer, and its micro batches of the data that the flags name."""
    config = config_of(flags)
    data = open_data(config.data, config.network.seq_length, config.training.seed)
    assert data.train is not None
    trainer = make_trainer(flags, data.vocab_size)
    return trainer, Feed(data.train, config, trainer.mesh, trainer.device)


def random_batches(
    trainer: Trainer, s: int, vocabulary: int = 16, document: int = 0
) -> list[MicroBatch]:
    """A step's micro batches of s random tokens; each data-parallel rank has its own."""
    config, mesh = trainer.config, trainer.mesh
    b = config.training.micro_batch_size
    generator = torch.Generator().manual_seed(1 + mesh.dp.rank)
    tokens = torch.randint(0, vocabulary, (b, s + 1), generator=generator)
    ulysses, ring_ = ((axis.rank, axis.size) for axis in (mesh.ulysses, mesh.ring))
    spans = held_spans(s, ulysses, ring_, documents=document > 0)
    at = torch.cat([torch.arange(low, high) for low, high in spans])
    weights = torch.full((b, len(at)), mesh.ulysses.size * mesh.ring.size / (s * b))
    documents = ((*range(document, s, document), s),) * b if document else None
    batch = MicroBatch(tokens[:, at], tokens[:, at + 1], weights, at[None], documents)
    return [batch] * config.accumulation


def as_plain_torch(trainer: Trainer, job: Job) -> None:
    """Take out of the network what the job wants to be done as a plain PyTorch program does it."""
    if job.whole_logits:
        head_tiles.TILE_BYTES["cpu"] = head_tiles.TILE_TOKENS["cpu"] = 1 << 60
    if job.torch_checkpoint:
        for layer in trainer.model.layers:
            layer.run = as_written
        trainer.model.run_layers = partial(in_groups, 1)


@contextmanager
def timed_blocks() -> Iterator[list[float]]:
    """What the ring's blocks take, without the waits between them: one sum, in seconds."""
    taken, usual = [0.0], vars(ring)["blocks"]

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            began = time.perf_counter()
            result = function(*args)
            taken[0] += time.perf_counter() - began
            return result

        return call

    vars(ring)["blocks"] = lambda name: [timed(function) for function in usual(name)]
    yield taken
    vars(ring)["blocks"] = usual


def living_bytes(parameters: Iterable[torch.Tensor] = ()) -> int:
    """Bytes in storages of all living tensors; a gradient may have no Python object yet."""
    grads = [p.grad for p in parameters if p.grad is not None]
    found = {}
    for thing in [*gc.get_objects(), *grads]:
        if isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
            storage = thing.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def in_blocks() -> None:
    """On a CPU without AVX-512, where torch takes a hundred times as long for `dy @ W` in bf16 as
    in fp32, make it of blocks of 1,024 rows that are transposed first: ten times faster, and
    nothing beside it in memory that counts. Sums between blocks are rounded: losses are not read.
    """
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        library = torch.library.Library("aten", "IMPL")
        library.impl("mm", _mm_in_blocks, "CPU")
        _libraries.append(library)


_libraries: list[torch.library.Library] = []  # what is registered lasts as long as they do


def _mm_in_blocks(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    out = a.new_empty(len(a), b.shape[1])
    slow = a.dtype == torch.bfloat16 and b.stride(1) == 1 and a.stride(1) == 1
    if not slow:
        return torch.ops.aten.mm.out(a, b, out=out)
    for at in range(0, len(b), 1024):
        block = b[at : at + 1024].t().contiguous().t()
        torch.ops.aten.addmm.out(out, a[:, at : at + 1024], block, beta=float(at > 0), out=out)
    return out


def hold_libraries() -> None:
    """Lock the pages of libraries once they are there: a kernel that pages out what is seldom used
    would take them away while tensors are measured. Without the right to do so: no harm.
    """
    ctypes.CDLL(None).mlockall(MCL_CURRENT | MCL_ONFAULT)


def tidy() -> None:
    """Give back what nobody holds any more, so that memory is what is in use."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def watch(limit_gib: float) -> None:
    """End this rank when it takes more than it may."""
    while resident_gib() <= limit_gib:
        time.sleep(0.05)
    tell_launcher(TOO_LARGE)
    os._exit(TOO_LARGE)


def do(job: Job) -> Found:
    """The steps of one job."""
    if job.settled:
        give_back_large(0, smallest=TILES)
        hold_libraries()
    if job.blocks:
        in_blocks()
    tidy()
    reset_peak()
    base, others = resident_gib(), living_bytes()
    if job.genome:
        trainer, feed = genome_feed(job.flags)
    else:
        trainer, feed = make_trainer(job.flags, job.vocabulary), None
    if job.settled:
        give_back_large(0, smallest=TILES)  # again: the trainer has a bound of its own
    as_plain_torch(trainer, job)
    batches_of = partial(random_batches, trainer, vocabulary=job.vocabulary, document=job.document)
    fixed = [] if feed else batches_of(trainer.config.network.seq_length)
    if job.short:
        trainer.step(batches_of(job.short))
        reset_peak()
        base = base if job.settled else resident_gib()
    if job.limit_gib is not None:
        threading.Thread(target=watch, args=(job.limit_gib,), daemon=True).start()
    times, results = [], []
    with trainer, timed_blocks() as blocks:
        for _ in range(job.warm + job.steps):
            dist.barrier()
            began = time.perf_counter()
            batches = feed.step(trainer.consumed_samples) if feed else fixed
            results.append(trainer.step(batches))
            dist.barrier()
            times.append(time.perf_counter() - began)
        peak = peak_resident_gib()
        living, resident = 0, 0.0
        if job.living:
            trainer.forward_backward(fixed)
            tidy()
            living = living_bytes(trainer.model.parameters()) - others
            resident = resident_gib() - base
        gathered = trainer.ranks.gather((base, peak, blocks[0], living, resident))
        count = sum(getattr(p, "ds_numel", p.numel()) for p in trainer.model.parameters())
    bases, peaks, ring_seconds, livings, residents = map(list, zip(*gathered, strict=True))
    return Found(
        times=times[job.warm :],
        losses=[result.loss for result in results],
        norms=[result.grad_norm for result in results],
        base_gib=bases,
        peak_gib=peaks,
        ring_seconds=ring_seconds,
        living_bytes=livings,
        living_gib=residents,
        parameters=count,
    )


def main() -> None:
    import deepspeed  # noqa: F401  # its memory is not the trainer's

    warnings.simplefilter("ignore")
    start_distributed(torch.device("cpu"))
    found = {}
    for name, words in json.loads(sys.argv[1]).items():
        try:
            found[name] = asdict(do(Job(**words)))
        except UserError as error:
            found[name] = asdict(Found(refused=str(error)))
    if rank() == 0:
        print(json.dumps(found), flush=True)
    stop_distributed()


if __name__ == "__main__":
    main()
