"""Messages between CPU ranks through MPI, where the ranks were started by an MPI launcher.

On one host MPI's shared memory is far quicker than gloo's sockets: two ranks reached 0.60 of the
speed of one rank with two threads over gloo, 0.93 over MPI, at 512 tokens (`python -m benchmarks
pairs two_ranks`; `collectives` has both side by side). GPUs use NCCL; ranks without MPI use gloo.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

LAUNCHERS = ("PMI_SIZE", "PALS_RANKID", "OMPI_COMM_WORLD_SIZE")  # set for ranks that MPI knows
LARGEST = 1 << 30  # bytes of one message: Open MPI 4 counts them in 32 bits, and ends the rank
REDUCIBLE = (torch.float32, torch.float64, torch.int64, torch.int32)


def _is_launchers(MPI: Any, environ: Mapping[str, str]) -> bool:
    """Whether mpi4py's MPI is the launcher's: another one aborts the rank when it is started."""
    ours = "Open MPI" in MPI.Get_library_version()
    return ours == bool(environ.get("OMPI_COMM_WORLD_SIZE"))


def world(rank: int, size: int, environ: Mapping[str, str] = os.environ) -> Any | None:
    """MPI's communicator of all ranks, None where there is no MPI or it counts them otherwise.

    None as well for ranks on several hosts (LOCAL_WORLD_SIZE is what one has): what is won is
    shared memory, and gloo needs nothing of the network but addresses.
    """
    if not any(environ.get(name) for name in LAUNCHERS):
        return None
    if environ.get("LOCAL_WORLD_SIZE", str(size)) != str(size):
        return None
    try:
        import mpi4py

        # A rank that fails must not wait in MPI_Finalize for the others: see `finish`.
        mpi4py.rc.finalize = False
        mpi4py.rc.initialize = False
        from mpi4py import MPI
    except ImportError:
        return None
    if not _is_launchers(MPI, environ):
        return None
    if not MPI.Is_initialized():
        MPI.Init_thread(MPI.THREAD_MULTIPLE)
    comm = MPI.COMM_WORLD
    comm.Barrier()  # all have mapped MPI's shared memory
    _forget_names()
    return comm if (comm.Get_rank(), comm.Get_size()) == (rank, size) else None


def _forget_names() -> None:
    """Unlink MPI's mapped shared-memory files: they live on unnamed, and a kill leaves nothing."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        lines = [
            line.rstrip("\n").split(maxsplit=5) for line in maps if "/dev/shm/mpich_shm_" in line
        ]
    for path in {line[5] for line in lines}:
        with contextlib.suppress(FileNotFoundError):  # unlinked already, by another rank or by MPI
            os.unlink(path)


def subset(comm: Any, members: Sequence[int]) -> Any:
    """The communicator of `members`; called by the members alone."""
    return comm.Create_group(comm.Get_group().Incl(list(members)))


def finish() -> None:
    """End MPI after a run that ended well; a failed rank just exits, and the launcher ends all.

    MPI_Finalize waits for the last rank and mpi4py holds Python's lock meanwhile, so that this rank
    would give no more signs of life, nor hear a signal: they meet before.
    """
    import sys

    if "mpi4py.MPI" in sys.modules:
        MPI = sys.modules["mpi4py.MPI"]
        if MPI.Is_initialized() and not MPI.Is_finalized():
            Request(MPI.COMM_WORLD.Ibarrier()).wait()
            MPI.Finalize()


class Request:
    """A message under way. Waiting gives the core away, so that ranks can outnumber cores."""

    SPINS = 500  # polls, about a millisecond, before the wait turns into short sleeps
    NAP = 5e-5

    def __init__(self, *parts: Any) -> None:
        """`parts`: MPI's own requests, of the pieces that a large message goes in."""
        self._parts = parts

    def wait(self) -> None:
        for part in self._parts:
            self._wait_for(part.Test)

    def _wait_for(self, test: Callable[[], bool]) -> None:
        for _ in range(self.SPINS):
            if test():
                return
            os.sched_yield()
        while not test():
            time.sleep(self.NAP)


def send(x: Tensor, to: int, comm: Any) -> Request:
    """Start sending contiguous `x`, of any shape, which must not change before `wait()`."""
    return Request(*(comm.Isend(piece, to) for piece in _bytes(x)))


def receive(x: Tensor, source: int, comm: Any) -> Request:
    """Start receiving into contiguous `x`, of any shape, which is there after `wait()`."""
    return Request(*(comm.Irecv(piece, source) for piece in _bytes(x)))


def all_reduce(x: Tensor, comm: Any, maximum: bool) -> None:
    """Sum or maximum over the ranks, in place; `x` of any shape, of a type in REDUCIBLE."""
    from mpi4py import MPI

    op = MPI.MAX if maximum else MPI.SUM
    for piece in x.detach().reshape(-1).split(LARGEST // x.element_size()):
        Request(comm.Iallreduce(MPI.IN_PLACE, piece.numpy(), op)).wait()


def _bytes(x: Tensor) -> list[Any]:
    """The memory of `x`, of any shape, as pieces of bytes: numpy has no bfloat16."""
    pieces = x.detach().reshape(-1).view(torch.uint8).split(LARGEST)
    return [piece.numpy() for piece in pieces]
