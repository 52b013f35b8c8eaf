"""What one host says of itself, and whether all of them can talk.

Two files a process, so that a host which hangs in the second part has still answered the first:
report-RANK.json  Python, versions, GPUs, room, data; read in milliseconds, standard library only
net-RANK.json     an all-reduce over all hosts: clock, seconds, bandwidth
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longseq.host.atomic_files import replace_file
from longseq.run.environment import package_versions

LIBRARIES = ("torch", "deepspeed", "numpy", "mpi4py")
IDLE_GIB = 2.0  # a GPU that nobody uses has less memory taken than this
LEAST_SECONDS = 30  # that the all-reduce waits for the other hosts
REPEATS = 5


def host_report(data: str, output: str) -> dict[str, Any]:
    """What can be known of this host without another one."""
    return {
        "host": socket.gethostname(),
        "expected": os.environ.get("LONGSEQ_EXPECTED_HOST", ""),
        "python": platform.python_version(),
        "executable": sys.executable,
        "versions": package_versions(LIBRARIES),
        "gpus": gpus(),
        "scratch_gib": free_gib(tempfile.gettempdir()),
        "shared_memory_gib": free_gib("/dev/shm"),
        "output_gib": free_gib(output),
        "data": unreadable(data),
        "port": port_problem(),
    }


def gpus() -> list[dict[str, float]] | None:
    """Use in percent and memory taken in GiB of each GPU in sight; None without nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used"]
    try:
        text = subprocess.run(
            [*command, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [line.split(",") for line in text.splitlines() if "," in line]
    return [{"use": _number(a), "taken_gib": _number(b) / 1024} for a, b in rows]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # "[N/A]"
        return 0.0


def free_gib(folder: str) -> float | None:
    """Room in a folder that this host can write to, else None."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            return round(shutil.disk_usage(folder).free / 2**30, 2)
    except OSError:
        return None


def unreadable(data: str) -> str:
    """Why the data cannot be read on this host; empty if they can."""
    names = [data] if os.path.exists(data) else [f"{data}.bin", f"{data}.idx"]
    for name in names if data else []:
        try:
            with open(name, "rb") as file:
                if not file.read(1):
                    return f"{name} is empty"
        except OSError as error:
            return f"{name}: {error.strerror}"
    return ""


def port_problem() -> str:
    """Why ranks cannot meet on this host's port; only the first host listens."""
    if os.environ.get("RANK", "0") != "0":
        return ""
    port = int(os.environ.get("MASTER_PORT", "0"))
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            return f"port {port}: {error.strerror}"
    return ""


def network_report(device: str) -> dict[str, Any]:
    """An all-reduce with all hosts; raises where that does not work in time."""
    import torch
    import torch.distributed as dist

    began = time.monotonic()
    on_gpu = device == "cuda"
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=patience())
    if on_gpu:
        torch.cuda.set_device(0)
    size = (256 if on_gpu else 4) * 2**20  # bytes
    x = torch.ones(size // 4, device=device)
    dist.all_reduce(x)  # connects all, so that all leave it within a message's time
    clock = torch.tensor([time.time()], dtype=torch.float64, device=device)
    clocks = [torch.zeros_like(clock) for _ in range(dist.get_world_size())]
    dist.all_gather(clocks, clock)
    right = bool((x == dist.get_world_size()).all())
    seconds = min(_timed(x, dist, torch, on_gpu) for _ in range(REPEATS))
    middle = sorted(float(c) for c in clocks)[len(clocks) // 2]
    dist.destroy_process_group()
    return {
        "right": right,
        "clock_seconds": round(float(clock) - middle, 3),
        "bytes": size,
        "seconds": seconds,
        "gb_per_second": round(size / seconds / 1e9, 3),
        "took": round(time.monotonic() - began, 2),
    }


def patience(environ: Mapping[str, str] = os.environ) -> datetime.timedelta:
    """Half of what the preflight has: others may still import, and the verdict must be heard."""
    whole = environ.get("LONGSEQ_PREFLIGHT", "")
    return datetime.timedelta(
        seconds=max(LEAST_SECONDS, int(whole) // 2 if whole.isdecimal() else 0)
    )


def _timed(x: Any, dist: Any, torch: Any, on_gpu: bool) -> float:
    """Seconds of one all-reduce of `x`."""
    began = time.perf_counter()
    dist.all_reduce(x)
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - began


def probe(folder: Path, device: str, data: str, output: str) -> int:
    """Write this process's two files into `folder`."""
    rank, size = os.environ.get("RANK", "0"), int(os.environ.get("WORLD_SIZE", "1"))
    name = rank if not os.environ.get("LONGSEQ_EXPECTED_HOST") else f"alone-{socket.gethostname()}"
    _write(folder / f"report-{name}.json", host_report(data, output))
    if size == 1:
        return 0
    try:
        found = network_report(device)
    except Exception as error:  # whatever the network's library raises is what we want to know
        last = (str(error).strip() or repr(error)).splitlines()[0]
        found = {"error": f"{type(error).__name__}: {last}"}
    _write(folder / f"net-{rank}.json", {"host": socket.gethostname(), **found})
    return 0 if found.get("right") else 1


def _write(path: Path, content: dict[str, Any]) -> None:
    replace_file(path, json.dumps(content))
