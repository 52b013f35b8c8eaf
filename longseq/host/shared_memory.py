"""DeepSpeed's shared-memory collectives on CPU: kept off, and what earlier runs left of them, or
of MPI's, removed.

They leave 66 MiB a rank in /dev/shm after every run, and serve inference only. Without them
start-up is also spared a C++ build and the search for a compiler.
"""

import os
import time
from pathlib import Path

SHM = Path("/dev/shm")
PREFIXES = ("deepspeed_allreduce_buffer_", "mpich_shm_")
NEW = 60.0  # seconds in which a starting rank has made its file and not yet mapped it


def keep_off() -> None:
    """Make DeepSpeed use gloo alone; call it before deepspeed.init_distributed.

    The table says which of DeepSpeed's optional C++ operators this machine can build. An empty
    one also saves the search that fills it. Operators that are asked for by name (cpu_adam,
    async_io) do not look at it.
    """
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__ = {}


def remove_stale(folder: Path = SHM, now: float | None = None) -> list[Path]:
    """Remove this user's buffers that no process maps and that are not brand new; gives those
    removed.
    """
    removed = []
    mapped = _mapped_files()
    for path in sorted(path for name in PREFIXES for path in folder.glob(f"{name}*")):
        try:
            status = path.lstat()
            age = (time.time() if now is None else now) - status.st_mtime
            if status.st_uid == os.getuid() and age > NEW and str(path) not in mapped:
                path.unlink()
                removed.append(path)
        except FileNotFoundError:  # another run cleans up at the same time
            continue
    return removed


def _mapped_files(proc: Path = Path("/proc")) -> set[str]:
    """Names of buffers that a process we may look into has mapped."""
    names = set()
    for maps in proc.glob("[0-9]*/maps"):
        try:
            text = maps.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:  # ended meanwhile, or another user's, who owns none of our files
            continue
        for line in text.splitlines():
            if any(name in line for name in PREFIXES):
                names.add(line.split(maxsplit=5)[-1])
    return names
