"""Is one rank slower than the others? All wait for it, in every step.

    stragglers = Stragglers(ranks, device)
    record |= stragglers.look(iteration, seconds)   # {}, but about once a minute (a collective)
    if stragglers.warning: …                        # once, after several looks in a row
    last_record |= stragglers.peaks()               # at the end: memory alone (a collective)

Ranks wait for each other many times within a step, so its time is everyone's and blames nobody, and
what a rank itself needs is seen on a device only by stopping it. So each rank is timed alone: the
same few matrix products on each, right after a step, when all are idle. That sees a GPU that is
throttled, a slow or shared host; not a slow link. It takes a few milliseconds.
"""

from __future__ import annotations

import math
import socket
import time
from statistics import median

import torch

from longseq.host.host_memory import peak_memory_gib
from longseq.parallel.agreement import Ranks

EVERY = 60.0  # seconds between two looks, in whole steps
SLOWER = 1.15  # times the median, which a healthy rank never needs in a row
IN_A_ROW = 5
TRIALS = 3  # the quickest counts: what else the host does for a moment is no straggler


class Stragglers:
    """The work, when to do it next, and who was slow how often."""

    def __init__(self, ranks: Ranks, device: torch.device) -> None:
        self._ranks, self._host, self._due = ranks, socket.gethostname(), 2
        self._slow, self._times = -1, 0
        self.warning = ""
        self._kind = device.type
        on_gpu = device.type != "cpu"
        size, dtype = (2048, torch.bfloat16) if on_gpu else (256, torch.float32)
        self._x = torch.ones(size, size, device=device, dtype=dtype) if ranks.size > 1 else None
        self._products = 20 if on_gpu else 8

    def look(self, iteration: int, step_seconds: float) -> dict[str, float | int | str]:
        """The slowest rank, and the ranks' peaks of memory, for the record of this iteration; all
        ranks must call it, after each.
        """
        self.warning = ""
        if self._x is None or iteration < self._due:
            return {}
        mine = min(_timed(self._x, self._products) for _ in range(TRIALS))
        memory = peak_memory_gib(self._kind)
        found = self._ranks.gather((mine, self._host, step_seconds, memory))
        agreed = max(found[0][2], 1e-3)  # rank 0's, as all must look at the same iteration
        self._due = iteration + max(1, math.ceil(EVERY / agreed))
        rank, over = slowest([seconds for seconds, *_ in found])
        host = found[rank][1]
        self._count(rank, host, over)
        return {
            "slowest_rank": rank,
            "slowest_host": host,
            "slowest_over_median": round(over, 3),
            **_memory([gib for *_, gib in found]),
        }

    def peaks(self) -> dict[str, float | int]:
        """The ranks' peaks of memory, which may have grown since the last look; all must call."""
        if self._x is None:
            return {}
        return _memory(self._ranks.gather(peak_memory_gib(self._kind)))

    def _count(self, rank: int, host: str, over: float) -> None:
        if over < SLOWER:
            rank = -1
        self._times = self._times + 1 if rank == self._slow else 1
        self._slow = rank
        if rank >= 0 and self._times == IN_A_ROW:
            self.warning = (
                f"rank {rank} on {host} needs {over:.2f} times as long as the others for the same"
                f" work, {IN_A_ROW} times in a row: all wait for it (./longseq.sh doctor)"
            )


def slowest(seconds: list[float]) -> tuple[int, float]:
    """The rank that needed longest, and by what factor over the median of the others."""
    rank = max(range(len(seconds)), key=seconds.__getitem__)
    others = seconds[:rank] + seconds[rank + 1 :]
    return rank, seconds[rank] / median(others)


def _memory(peaks: list[float]) -> dict[str, float | int]:
    most = max(peaks)
    return {
        "least_memory_gib": min(peaks),
        "most_memory_gib": most,
        "most_memory_rank": peaks.index(most),
    }


def _timed(x: torch.Tensor, products: int) -> float:
    """Seconds of that many products of x [n, n] with itself."""
    if x.device.type != "cpu":
        torch.accelerator.synchronize(x.device)
    began = time.perf_counter()
    for _ in range(products):
        y = x @ x
    y[0, 0].item()  # waits for the device
    return time.perf_counter() - began
