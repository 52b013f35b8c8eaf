"""Milliseconds of exchanging and adding tensors between two CPU ranks, over gloo and over MPI."""

from __future__ import annotations

import json
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Callable

import torch
import torch.distributed as dist

from benchmarks.start import rank, say
from benchmarks.table import Table
from benchmarks.timing import seconds
from longseq.engine.distributed import start_distributed, stop_distributed
from longseq.parallel import mpi


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--kib", type=int, nargs="+", default=[4, 64, 1024, 4096])
    parser.add_argument("--as-rank", action="store_true", help=SUPPRESS)


def ways(kib: int, comm: object) -> list[Callable[[], object]]:
    """Swap and sum by gloo, swap and sum by MPI."""
    ours, theirs, other = torch.ones(kib * 256), torch.ones(kib * 256), 1 - rank()

    def gloo_swap() -> None:
        for request in (dist.isend(ours, other), dist.irecv(theirs, other)):
            assert request is not None
            request.wait()

    def mpi_swap() -> None:
        for request in (mpi.receive(theirs, other, comm), mpi.send(ours, other, comm)):
            request.wait()

    return [
        gloo_swap,
        mpi_swap,
        lambda: dist.all_reduce(ours, dist.ReduceOp.MAX),
        lambda: mpi.all_reduce(ours, comm, maximum=True),
    ]


def as_rank(kibs: list[int]) -> None:
    """What each of the two ranks runs; rank 0 prints milliseconds."""
    torch.set_num_threads(1)
    start_distributed(torch.device("cpu"))
    comm = mpi.world(rank(), 2)
    assert comm is not None, "mpiexec starts the ranks"
    rows = []
    for kib in kibs:
        times = []
        for act in ways(kib, comm):
            seconds(act, 3)
            dist.barrier()
            times.append(1e3 * seconds(act, 50))
        rows.append([kib, *times])
    if rank() == 0:
        print(json.dumps(rows), flush=True)
    stop_distributed()


def main(options: Namespace) -> None:
    if options.as_rank:
        as_rank(options.kib)
        return
    kib = [str(size) for size in options.kib]
    rows = say(2, ["benchmarks", "collectives", "--as-rank", "--kib", *kib])
    names = ("gloo swap", "MPI swap", "gloo sum", "MPI sum")
    table = Table(("KiB", ","), *((name, ".3f") for name in names))
    for row in rows:
        table.row(*row)
