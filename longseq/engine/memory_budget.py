"""How much memory each rank may still take, and what is therefore saved.

    policy = choose_recompute_policy(config, vocabulary, device, ranks)    # a collective

All ranks come to the same choice, from the least that one of them has.
"""

from __future__ import annotations

import socket
from pathlib import Path

import torch

from longseq.config.arguments import Config
from longseq.memory.recompute_policy import RecomputePolicy, choose
from longseq.parallel.agreement import Ranks

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
PLENTY = 1 << 60  # where nothing says how much there is


def host_bytes(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int:
    """What this host, or the container that we run in, has left."""
    found = [PLENTY]
    for line in _lines(meminfo):
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    limit, used = (_number(cgroup / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        found.append(max(0, limit - used))
    return min(found)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none, or it says `max`."""
    text = "".join(_lines(path)[:1]).strip()
    return int(text) if text.isdecimal() else None


def available_bytes(device: torch.device, ranks: Ranks) -> int:
    """What this rank may take: its GPU's free memory, or its share of the host's."""
    hosts = ranks.gather(socket.gethostname())
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return host_bytes() // hosts.count(socket.gethostname())


def choose_recompute_policy(
    config: Config, vocabulary: int, device: torch.device, ranks: Ranks
) -> RecomputePolicy:
    """What every rank does to need less memory."""
    available = min(ranks.gather(available_bytes(device, ranks)))
    return choose(config, vocabulary, available, device.type)
