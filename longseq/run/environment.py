"""What a run ran on: versions, commit, hosts and hardware, for its folder's `environment.json`.

    write_environment(folder, hosts=["x3001c0s13b0n0"])

Standard library only, and nothing is imported for its version: it takes milliseconds.
"""

import contextlib
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from longseq.run.folder import write_file

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = """
    torch deepspeed longseq mpi4py mpich megatron-core flash-attn apex triton numpy rich
    tensorboard wandb matplotlib pyrodigal nvidia-nccl-cu12 nvidia-cudnn-cu12
"""
PACKAGES = tuple(_PACKAGES.split())


def job_id(environ: Mapping[str, str] = os.environ) -> str:
    """The scheduler's number for this job, else this process's."""
    for name in ("PBS_JOBID", "SLURM_JOB_ID", "COBALT_JOBID"):
        if environ.get(name):
            return environ[name].split(".", 1)[0]
    return f"pid{os.getpid()}"


def write_environment(folder: Path, hosts: Iterable[str] = (), **more: Any) -> Path:
    """Write `folder/environment.json`: versions, commit, hosts and hardware."""
    text = json.dumps({**environment(hosts), **more}, indent=2, ensure_ascii=False)
    return write_file(folder / "environment.json", text + "\n")


def environment(hosts: Iterable[str] = ()) -> dict[str, Any]:
    """What is written, as a dictionary."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "hosts": list(hosts) or [socket.gethostname()],
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "packages": package_versions(),
        "commit": git_state(),
        "system": platform.platform(),
        "cpu": {"model": cpu_model(), "usable_cores": len(os.sched_getaffinity(0))},
        "memory_gib": _memory_gib(),
        "gpus": gpus(),
        "job": job_id(),
    }


def package_versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of those of `names` that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_state(tree: Path = ROOT) -> dict[str, Any] | None:
    """Commit of the source tree and whether tracked files differ from it; None where that is
    unknown. A job's tree has it in a file (ALCF/freeze.sh).
    """
    frozen: list[str] = []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        frozen = (tree / "commit.txt").read_text(encoding="utf-8").split()
    if len(frozen) == 2 and frozen[1].isdecimal():
        return {"id": frozen[0], "changed_files": int(frozen[1])}
    top = _output("git", "-C", str(tree), "rev-parse", "--show-toplevel")
    commit = _output("git", "-C", str(tree), "rev-parse", "HEAD")
    if commit is None or top != str(tree):  # installed inside somebody else's repository
        return None
    changes = _output("git", "-C", str(tree), "status", "--porcelain", "--untracked-files=no")
    return {"id": commit, "changed_files": None if changes is None else len(changes.splitlines())}


def cpu_model() -> str:
    """The processor's name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.machine()


def _memory_gib() -> float:
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def gpus() -> list[str]:
    """Name and memory of each GPU that nvidia-smi shows on this host."""
    if shutil.which("nvidia-smi") is None:
        return []
    listed = _output(
        "nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"
    )
    return [] if listed is None else listed.splitlines()


def _output(*command: str) -> str | None:
    """What a command prints, or None where it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
