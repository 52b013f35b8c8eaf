"""What a process on this host may take: files, threads, locked memory, and room on its disks.

limits()                # {"memlock": None, "nofile": 20000.0, "nproc": 96364.0}; None is no limit
free_gib("/tmp")        # None where it cannot be written to
quota_gib("outputs")    # what a quota leaves there, None where nothing says that there is one
"""

from __future__ import annotations

import getpass
import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

LIMITS = {
    "memlock": resource.RLIMIT_MEMLOCK,  # bytes
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
}


def limits() -> dict[str, float | None]:
    """The soft limits of this process."""
    found = {name: resource.getrlimit(which)[0] for name, which in LIMITS.items()}
    return {name: None if n == resource.RLIM_INFINITY else float(n) for name, n in found.items()}


def free_gib(folder: str) -> float | None:
    """Room in a folder that this host can write to, else None."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            return round(shutil.disk_usage(folder).free / 2**30, 2)
    except OSError:
        return None


# ---------------------------------------------------------------- quotas


def quota_gib(folder: str) -> float | None:
    """What the user's and the group's quotas leave: Lustre's, else those of `quota`."""
    try:
        group = str(os.stat(folder).st_gid)
    except OSError:  # `free_gib` has nothing to say of it either
        return None
    mount, device, kind = mount_of(folder)
    left: list[float] = []
    if kind == "lustre":
        for who in (["-u", _user()], ["-g", group]):
            left += quota_left(_said("lfs", "quota", "-q", *who, mount), mount)
    else:
        for whose in ("-u", "-g"):
            left += quota_left(_said("quota", "-w", "-p", whose), device)
    return round(min(left), 2) if left else None


def quota_left(text: str, of: str) -> list[float]:
    """GiB that each line for the file system `of` leaves.

    Both programs write: file system, blocks of 1 KiB that are taken, soft limit, hard limit, …; a
    star is behind what is over its limit, and 0 is no limit.
    """
    left = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 4 or words[0] != of:
            continue
        try:
            taken, soft, hard = (float(word.rstrip("*")) for word in words[1:4])
        except ValueError:
            continue
        if limit := hard or soft:
            left.append((limit - taken) / 2**20)
    return left


def mount_of(folder: str) -> tuple[str, str, str]:
    """Mount point, device and kind of the file system that a folder is on."""
    path = os.path.realpath(folder)
    best = ("/", "", "")
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return best
    for line in lines:
        device, mount, kind = line.split()[:3]
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best[0]):
            best = (mount, device, kind)
    return best


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for this number
        return str(os.getuid())


def _said(*command: str) -> str:
    """What a program prints; `quota` ends with 1 for who is over it."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
