"""Which CPUs and which GPU this process has, and whether they are near each other.

    place = where(pci_address(0))       # Place(host="nid1", cpus="0-7", gpu="0000:c7:00.0", …)
    for line in complaints([…]): …      # of all ranks, what a launcher's binding got wrong

A launcher binds ranks to cores, a site's list orders the GPUs, and each can be right alone and both
together wrong: so it is looked at where it counts, in the rank. The kernel knows which CPUs are
next to a device (sysfs). Standard library only; torch is asked for the GPU's address alone.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSFS = Path("/sys")


@dataclass(frozen=True)
class Place:
    """`gpu` is its address on the bus, "" on a CPU; `near`: some of the CPUs are next to it, None
    where the kernel does not know.
    """

    host: str
    cpus: str
    gpu: str = ""
    near: bool | None = None


def read_cpus(text: str) -> set[int]:
    """CPUs of a list as the kernel writes it: "0-7,32-39"."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def write_cpus(cpus: Iterable[int]) -> str:
    """The other way round: {0, 1, 2, 8} is "0-2,8"."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(f"{a}-{b}" if b > a else str(a) for a, b in runs)


def pci_address(device: Any) -> str:
    """Address of a CUDA device of torch's on the bus, as "0000:c7:00.0"."""
    import torch

    found: Any = torch.cuda.get_device_properties(device)
    try:
        domain, bus, slot = found.pci_domain_id, found.pci_bus_id, found.pci_device_id
    except AttributeError:  # an older torch does not say
        return ""
    return f"{domain:04x}:{bus:02x}:{slot:02x}.0"


def where(gpu: str = "", sysfs: Path = SYSFS) -> Place:
    """This process's place; `gpu`: its address on the bus."""
    cpus = os.sched_getaffinity(0)
    near = None
    if gpu:
        try:
            local = (sysfs / "bus/pci/devices" / gpu / "local_cpulist").read_text(encoding="ascii")
            near = bool(read_cpus(local) & cpus) if local.strip() else None
        except (OSError, ValueError):
            near = None
    return Place(socket.gethostname(), write_cpus(cpus), gpu, near)


def complaints(places: Sequence[Place]) -> list[str]:
    """A line for what is wrong with the places of all ranks, in their order."""
    far = [rank for rank, place in enumerate(places) if place.near is False]
    lines = []
    if far:
        first = places[far[0]]
        ranks = ", ".join(map(str, far[:8])) + (", …" if len(far) > 8 else "")
        lines.append(
            f"{len(far)} rank(s) have no CPU near their GPU ({ranks}): rank {far[0]} on"
            f" {first.host} has CPUs {first.cpus} and GPU {first.gpu}; LAUNCH_ARGS changes that"
        )
    shared = {(p.host, p.gpu) for p in places if p.gpu}
    if len(shared) < sum(bool(p.gpu) for p in places):
        lines.append("several ranks share a GPU: CUDA_VISIBLE_DEVICES, or the launcher's binding")
    return lines
