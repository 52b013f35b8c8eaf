"""Memory of this process and of its host: what is taken, what was at most, what is left.

psutil knows what this process has taken. The peak, and what a container may take, are read from
Linux, as it has no word for them; so is what the host has, which a plan asks for before anything is
installed.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
GPUS = ("cuda", "xpu")  # devices whose memory torch knows; AMD's are cuda as well


def available_bytes(cgroup: Path = CGROUP) -> int:
    """What this host, or the container that we run in, has left."""
    left = _of_host("MemAvailable")
    limit, used = (_number(cgroup / name) for name in ("memory.max", "memory.current"))
    if limit is None or used is None:
        return left
    return min(left, max(0, limit - used))


def capacity_bytes(cgroup: Path = CGROUP) -> int:
    """What this host, or the container that we run in, has in all."""
    return min(_of_host("MemTotal"), _number(cgroup / "memory.max") or sys.maxsize)


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
    text = MEMINFO.read_text(encoding="ascii", errors="replace")
    lines = dict(line.split(":", 1) for line in text.splitlines())
    return int(lines[name].split()[0]) * 1024


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none, or it says `max`."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def resident_gib() -> float:
    """Resident memory of this process now."""
    return float(_process().rss) / 2**30


def peak_resident_gib() -> float:
    """Largest resident memory of this process since its start or the last `reset_peak`."""
    try:
        lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
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
