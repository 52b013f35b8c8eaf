"""What all ranks find out together: who is slow, over what they talk, whether sums are right.

    found = {}
    look("cuda", Path(folder), found)    # fills `found` as far as it comes; raises where that ends

Hosts exchange messages in pairs, as in a tournament: in each round every host has another partner,
and all its GPUs send at once. A slow host is slow with all its partners, each of which is quick
with others. Only then all sum up together, with messages that the slowest pair carries.
"""

from __future__ import annotations

import datetime
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

LEAST_SECONDS = 30  # that a message waits for the other hosts
ROUNDS = 5
REPEATS = 3
SMALL = 2**18  # bytes: says which size a pair carries in SECONDS
SECONDS = 0.25
LARGEST = {"cuda": 2**26, "cpu": 2**22}
NAME = 64  # bytes of a host's name
NETWORK = re.compile(r"Using network (.+)|Assigned NET plugin (.+) to comm")
CARDS = re.compile(r"NET/(?:Socket|IB) : Using *(\[.+)")  # [0]hsn0:10.1.1.7<0> [1]hsn1:…


def rounds(count: int, most: int = ROUNDS) -> Iterator[list[int | None]]:
    """The partner of each of `count` hosts, a list a round; None: it waits. No two meet twice."""
    last = count - 1 if count % 2 == 0 else count  # for an odd count somebody who is not there
    for turn in range(min(last, most)):
        waits = turn * (last + 1) // 2 % last  # who would meet itself meets the last one
        partners = [(turn - host) % last for host in range(last)] + [waits]
        partners[waits] = last
        yield [p if p < count else None for p in partners[:count]]


def look(device: str, folder: Path, found: dict[str, Any]) -> None:
    """All of it, into `found`; on every rank."""
    if device == "cuda":
        os.environ |= {
            "NCCL_DEBUG": "INFO",
            "NCCL_DEBUG_SUBSYS": "INIT,NET",
            "NCCL_DEBUG_FILE": str(folder / f"nccl-{os.environ.get('RANK', '0')}.txt"),
        }
    import torch
    import torch.distributed as dist

    from longseq.host.affinity import pci_address, where

    began = time.monotonic()
    place = torch.device("cpu")
    if device == "cuda":
        place = torch.device(
            "cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
        )
        torch.cuda.set_device(place)
        found["place"] = vars(where(pci_address(place)))
    else:
        found |= {"transport": "gloo", **gloo_interface()}
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=patience())
    try:
        ranks = _Ranks(torch, dist, place)
        ranks.all_reduce(SMALL)  # connects all
        if device == "cuda":
            found |= nccl_transport(folder / f"nccl-{dist.get_rank()}.txt")
        clocks = ranks.gather(torch.tensor([time.time()], dtype=torch.float64))
        found["clock_seconds"] = round(
            float(clocks[dist.get_rank()]) - sorted(map(float, clocks))[len(clocks) // 2], 3
        )
        found["pairs"] = []
        for other, pair in ranks.pairs(found):
            found["pairs"].append({"with": other, **pair})
        found["doing"] = "adding up with all"
        found |= ranks.sum_up(found["pairs"])
        del found["doing"]
        found["took"] = round(time.monotonic() - began, 2)
    finally:
        dist.destroy_process_group()


class _Ranks:
    """All ranks of the test, and where each is."""

    def __init__(self, torch: Any, dist: Any, device: Any) -> None:
        self.torch, self.dist, self.device = torch, dist, device
        own = socket.gethostname().encode()[:NAME].ljust(NAME)
        names = self.gather(torch.frombuffer(bytearray(own), dtype=torch.uint8))
        self.names = [bytes(name.tolist()).decode(errors="replace").strip() for name in names]
        self.hosts = list(dict.fromkeys(self.names))

    def gather(self, x: Any) -> list[Any]:
        """`x` of every rank, on the CPU."""
        x = x.to(self.device)
        all_ = [self.torch.zeros_like(x) for _ in range(self.dist.get_world_size())]
        self.dist.all_gather(all_, x)
        return [each.cpu() for each in all_]

    def all_reduce(self, size: int) -> Callable[[], None]:
        """Sums up `size` bytes once; returns a call that does so again."""
        x = self.torch.ones(size // 4, device=self.device)

        def again() -> None:
            self.dist.all_reduce(x)

        again()
        self.right = bool((x == self.dist.get_world_size()).all())
        return again

    def timed(self, run: Callable[[], None], meet: Callable[[], None] = lambda: None) -> float:
        """Seconds of the quickest of a few calls; `meet`: so that all begin at once."""
        times = []
        for _ in range(REPEATS):
            meet()
            self._finish()
            began = time.perf_counter()
            run()
            self._finish()
            times.append(time.perf_counter() - began)
        return min(times)

    def _finish(self) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def pairs(self, found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """This rank's exchanges: the other host, {"bytes": one way, "seconds"}.

        `found["doing"]`: with whom.
        """
        rank = self.dist.get_rank()
        local = self.names[:rank].count(self.names[rank])
        mine = self.hosts.index(self.names[rank])
        for partners in rounds(len(self.hosts)):
            other = partners[mine]
            found["doing"] = (
                "waiting for the others"
                if other is None
                else f"exchanging with {self.hosts[other]}"
            )
            there = [] if other is None else self._on(other)
            took, meet = 0.0, None
            if local < len(there):
                meet = self._exchange(there[local], 1)
                took = self.timed(self._exchange(there[local], SMALL), meet)
            # Both of a pair must know the size: that of the slower one of the two
            seconds = [
                float(s) for s in self.gather(self.torch.tensor([took], dtype=self.torch.float64))
            ]
            if meet is None or other is None:
                continue
            size = self._size(SMALL / max(took, seconds[there[local]]))
            best = min(took, seconds[there[local]])
            if size > SMALL:
                best = self.timed(self._exchange(there[local], size), meet)
            yield self.hosts[other], {"bytes": size, "seconds": best}

    def _on(self, host: int) -> list[int]:
        return [rank for rank, name in enumerate(self.names) if name == self.hosts[host]]

    def _size(self, rate: float) -> int:
        """Bytes that take SECONDS at most at `rate` bytes a second; a power of 2."""
        size = SMALL
        while size < LARGEST[self.device.type] and 2 * size <= rate * SECONDS:
            size *= 2
        return size

    def _exchange(self, other: int, size: int) -> Callable[[], None]:
        """A call that sends `size` bytes to a rank and receives as many; done once, to connect."""
        dist = self.dist
        there, back = (
            self.torch.zeros(size, dtype=self.torch.uint8, device=self.device) for _ in "12"
        )

        def run() -> None:
            both = [dist.P2POp(dist.isend, there, other), dist.P2POp(dist.irecv, back, other)]
            for work in dist.batch_isend_irecv(both):
                work.wait()

        run()
        return run

    def sum_up(self, pairs: list[dict[str, Any]]) -> dict[str, Any]:
        """The all-reduce of all ranks."""
        own = min((p["bytes"] / p["seconds"] for p in pairs), default=float("inf"))
        slowest = min(
            float(r) for r in self.gather(self.torch.tensor([own], dtype=self.torch.float64))
        )
        size = self._size(slowest)
        again = self.all_reduce(size)
        right = self.right
        seconds = self.timed(again)
        return {
            "right": right,
            "bytes": size,
            "seconds": seconds,
            "gb_per_second": size / seconds / 1e9,
        }


def patience(environ: Mapping[str, str] = os.environ) -> datetime.timedelta:
    """Half of what the preflight has: others may still import, and the verdict must be heard."""
    whole = environ.get("LONGSEQ_PREFLIGHT", "")
    return datetime.timedelta(
        seconds=max(LEAST_SECONDS, int(whole) // 2 if whole.isdecimal() else 0)
    )


# ---------------------------------------------------------------- over what


def nccl_transport(log: Path) -> dict[str, Any]:
    """The network that NCCL says it took, and its interfaces, from its own log."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    names = [used or assigned for used, assigned in NETWORK.findall(text)]
    cards = [card for line in CARDS.findall(text) for card in re.findall(r"\[\d+\]([^:\s]+)", line)]
    return {
        "transport": names[-1].strip() if names else None,
        "interface": ",".join(dict.fromkeys(cards)) or None,
    }


def gloo_interface(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The interface that gloo takes: the one named, else that of this host's own name."""
    import psutil  # type: ignore[import-untyped]

    named = environ.get("GLOO_SOCKET_IFNAME", "")
    if named:
        return {"interface": named}
    try:
        address = socket.gethostbyname(socket.gethostname())
    except OSError:
        return {"interface": None}
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return {"interface": name, "address": address}
    return {"interface": "lo" if address.startswith("127.") else None, "address": address}
