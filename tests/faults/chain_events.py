"""What happens to a job of kill_chain.py: who is killed, by whom, where; a disk that fills up.

victims = Victims(job_folder)
what = chance.choice(EVENTS)(site, victims, chance, number)   # does it; says what it did
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from tests.launch.slurm import Slurm

FULL = 6.0  # seconds that a disk stays full at most


class Site(Protocol):
    """What an event may touch: Slurm, and the disk of the runs."""

    slurm: Slurm
    disk: Path


def processes(mark: str) -> dict[int, str]:
    """Command lines of the living processes whose environment holds `mark`."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                words = (folder / "cmdline").read_bytes().split(b"\0")
                found[int(folder.name)] = b" ".join(words).decode(errors="replace")
    return {pid: line for pid, line in found.items() if line}


def host_of(pid: int, site: Site) -> str:
    """The simulated host that a process is on."""
    for name in site.slurm.cluster.names:
        holder = (site.slurm.cluster.folder / f"pid.{name}").read_text()
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/ns/net") == os.readlink(f"/proc/{holder}/ns/net"):
                return name
    return "?"


ROLES = (
    ("srun", r"srun "),
    ("a rank's parent", r"/bin/sh \S*/rank\.sh"),
    ("a rank", r"\S*python\S* \S*/pretrain_gpt\.py"),
    ("the check before the ranks", r"\S*python\S* -m longseq check"),
    ("the script", r"\S*bash \S*/train-gpt3\.sh"),
    ("the batch script", r"\S*bash \S*/job\.sh"),
    ("a probe of the preflight", r"\S*python\S* -m longseq doctor"),
)


def by_role(mark: str, number: str) -> dict[str, list[int]]:
    """The job's processes that one may kill."""
    found: dict[str, list[int]] = {}
    for pid, line in processes(mark).items():
        for role, pattern in ROLES:
            if re.match(pattern, line):
                found.setdefault(role, []).append(pid)
                break
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (folder / "cmdline").read_bytes().decode(errors="replace")
            if line.startswith(f"slurmstepd: [{number}."):
                step = line.partition(".")[2].partition("]")[0]
                found.setdefault(f"slurmstepd of step {step}", []).append(int(folder.name))
    return found


def kill(site: Site, mark: str, chance: random.Random, number: str) -> str:
    """kill -9 of one process."""
    found = by_role(mark, number)
    if not found:
        return "nobody was there to be killed"
    role = chance.choice(sorted(found))
    pid = chance.choice(found[role])
    where = host_of(pid, site)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return f"kill -9 of {role} on {where}"


def cancel(site: Site, _mark: str, _chance: random.Random, number: str) -> str:
    site.slurm.ask("scancel", number)
    return "scancel"


def warn(site: Site, _mark: str, _chance: random.Random, number: str) -> str:
    """What Slurm sends before a job's end."""
    site.slurm.ask("scancel", "--signal=USR1", "--batch", number)
    return "SIGUSR1 to the batch script"


def requeue(site: Site, _mark: str, _chance: random.Random, number: str) -> str:
    site.slurm.ask("scontrol", "requeue", number)
    return "scontrol requeue"


def lose_host(site: Site, mark: str, chance: random.Random, _number: str) -> str:
    """All that runs on one host is gone at once, and Slurm is told so; it starts the job again."""
    found = {pid: host_of(pid, site) for pid in processes(mark)}
    if not found:
        return "no host was there to be lost"
    host = chance.choice(sorted(set(found.values())))
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            if found[pid] == host:
                os.kill(pid, signal.SIGKILL)
    site.slurm.ask("scontrol", "update", f"nodename={host}", "state=down", "reason=lost")
    return f"host {host} is lost"


EVENTS: tuple[Callable[[Any, str, random.Random, str], str], ...] = (
    kill,
    kill,
    kill,
    cancel,
    warn,
    requeue,
    lose_host,
)


def fill(disk: Path) -> Path:
    """Leave no byte on a disk; the file that takes them."""
    path = disk / "others.bin"
    block = bytes(1 << 16)
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            with contextlib.suppress(OSError):
                while file.write(block[:size]) == size:
                    pass
    return path


def full_for(disk: Path, chance: random.Random, during: Callable[[], str]) -> str:
    """The disk is full for a while, in which `during` happens."""
    others = fill(disk)
    began = time.monotonic()
    time.sleep(chance.uniform(0.5, FULL))
    what = during()
    others.unlink()
    return f"the disk is full for {time.monotonic() - began:.1f} s" + (
        f", and {what}" if what else ""
    )
