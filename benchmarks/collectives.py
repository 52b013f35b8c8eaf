"""Milliseconds of exchanging and adding tensors between two CPU ranks, over gloo and over MPI.

mpiexec -n 2 sh ALCF/rank.sh python benchmarks/collectives.py
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from longseq.parallel import mpi  # noqa: E402


def milliseconds(act: Callable[[], Any], count: int = 50) -> float:
    """Mean time of `act`, called by both ranks together."""
    for _ in range(3):
        act()
    dist.barrier()
    began = time.perf_counter()
    for _ in range(count):
        act()
    return (time.perf_counter() - began) / count * 1e3


def main() -> None:
    rank = int(os.environ["RANK"])
    other = 1 - rank
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    comm = mpi.world(rank, 2)
    assert comm is not None, "start this under mpiexec with two ranks"
    if rank == 0:
        print(f"{'KiB':>6} {'gloo swap':>10} {'MPI swap':>10} {'gloo sum':>10} {'MPI sum':>10}")
    for kib in (4, 64, 1024, 4096):
        ours, theirs = torch.ones(kib * 256), torch.ones(kib * 256)

        def gloo_swap(x: torch.Tensor = ours, y: torch.Tensor = theirs) -> None:
            for request in (dist.isend(x, other), dist.irecv(y, other)):
                assert request is not None
                request.wait()

        def mpi_swap(x: torch.Tensor = ours, y: torch.Tensor = theirs) -> None:
            for request in (mpi.receive(y, other, comm), mpi.send(x, other, comm)):
                request.wait()

        def gloo_sum(x: torch.Tensor = ours) -> None:
            dist.all_reduce(x, dist.ReduceOp.MAX)

        def mpi_sum(x: torch.Tensor = ours) -> None:
            mpi.all_reduce(x, comm, maximum=True)

        times = [milliseconds(act) for act in (gloo_swap, mpi_swap, gloo_sum, mpi_sum)]
        if rank == 0:
            print(f"{kib:>6} " + " ".join(f"{t:>10.3f}" for t in times), flush=True)
    dist.destroy_process_group()
    mpi.finish()


if __name__ == "__main__":
    main()
