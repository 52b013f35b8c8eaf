"""Memory of this process and of its host: what is taken, what was at most, what is left.

psutil knows what this process has taken. The peak, and what a container or a batch system's job may
take, are read from Linux, as it has no word for them; so is what the host has, which a plan asks
for before anything is installed.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
MEMINFO = Path("/proc/meminfo")
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")
CACHE = ("inactive_file", "active_file")  # pages of files, which the kernel gives back
GPUS = ("cuda", "xpu")  # devices whose memory torch knows; AMD's are cuda as well


def available_bytes(groups: Path = GROUPS, own: Path = OWN_GROUPS) -> int:
    """What this host, or the container or job that we run in, has left."""
    left = [max(0, limit - used) for limit, used in _limits(groups, own)]
    return min([_of_host("MemAvailable"), *left])


def capacity_bytes(groups: Path = GROUPS, own: Path = OWN_GROUPS) -> int:
    """What this host, or the container or job that we run in, has in all."""
    return min([_of_host("MemTotal"), *(limit for limit, _ in _limits(groups, own))])


def _limits(groups: Path, own: Path) -> Iterator[tuple[int, int]]:
    """Of each control group that this process is in, from its own up: the limit and what is taken.

    A batch system limits a group for the job, in which those of its steps are. Below `groups` are
    those of version 2, and in `groups`/memory those of version 1, with other names.
    """
    for line in _text(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            root, limit_name, used_name, of_all = groups, "memory.max", "memory.current", ""
        elif controllers == "memory":
            root, of_all = groups / "memory", "total_"
            limit_name, used_name = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        # In a container the path may be that on its host, where only the root is to be seen
        group = root / path.strip("/") if ".." not in path else root
        while True:
            limit, used = _number(group / limit_name), _number(group / used_name)
            if limit is not None and used is not None:
                stat = dict(one.split(" ", 1) for one in _text(group / "memory.stat").splitlines())
                yield limit, used - sum(int(stat.get(of_all + name, 0)) for name in CACHE)
            if group == root:
                break
            group = group.parent


def own_limit_bytes() -> int:
    """What `ulimit -d` leaves this process."""
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(0, limit - int(_process().data))


def available_gib(device: str = "cpu") -> float:
    """What the GPU of this rank, or its host, has left."""
    if device not in GPUS:
        return min(available_bytes(), own_limit_bytes()) / 2**30
    import torch

    return float(getattr(torch, device).mem_get_info()[0]) / 2**30


def _process() -> Any:
    import psutil  # type: ignore[import-untyped]

    return psutil.Process().memory_info()


def _of_host(name: str) -> int:
    """Bytes that a line of MEMINFO says."""
    lines = dict(line.split(":", 1) for line in _text(MEMINFO).splitlines())
    return int(lines[name].split()[0]) * 1024


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none, or it says `max`."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def resident_gib() -> float:
    """Resident memory of this process now."""
    return float(_process().rss) / 2**30


def peak_resident_gib() -> float:
    """Largest resident memory of this process since its start or the last `reset_peak`."""
    for line in _text(STATUS).splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def reset_peak() -> bool:
    """Start measuring the resident peak afresh; False where the kernel does not allow it."""
    try:
        descriptor = os.open(CLEAR, os.O_WRONLY)
        try:
            os.write(descriptor, b"5")  # 5: reset VmHWM, see proc(5)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return True


def peak_memory_gib(device: str = "cpu") -> float:
    """The peak that limits this rank: what torch's allocator took from the GPU, else resident
    memory.
    """
    if device not in GPUS:
        return peak_resident_gib()
    import torch

    return float(getattr(torch, device).max_memory_reserved()) / 2**30
