"""What one host says of itself, and what its ranks find out with all others.

Two files, so that a host which hangs in the second part has still answered the first:
report-RANK.json  of a host's first rank: Python, versions, GPUs, limits, room, data; needs no torch
net-RANK.json     of every rank: where it runs, over what it talks, how quickly with whom
"""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from longseq.doctor.gpus import idle_gpus, read_gpus
from longseq.doctor.room import free_gib, limits, quota_gib
from longseq.host.atomic_files import replace_file
from longseq.run.environment import package_versions

LIBRARIES = ("torch", "deepspeed", "numpy", "mpi4py")


def host_report(data: str, output: str, device: str = "cpu") -> dict[str, Any]:
    """What can be known of this host without another one; device: what a run would compute on."""
    return {
        "host": socket.gethostname(),
        "expected": os.environ.get("LONGSEQ_EXPECTED_HOST", ""),
        "python": platform.python_version(),
        "executable": sys.executable,
        "versions": package_versions(LIBRARIES),
        "gpus": idle_gpus() if device == "cuda" else read_gpus(),
        "limits": limits(),
        "scratch_gib": free_gib(temporary()),
        "shared_memory_gib": free_gib("/dev/shm"),
        "output_gib": free_gib(output),
        # One host asks: hundreds would burden the file system
        "output_quota_gib": quota_gib(output) if os.environ.get("RANK", "0") == "0" else None,
        "data": unreadable(data),
        "port": port_problem(),
    }


def temporary() -> str:
    """TMPDIR, though nothing can be made in it: Python goes elsewhere then, without a word. One
    that is not there is done without, as ALCF/launch.sh has it.
    """
    asked = os.environ.get("TMPDIR", "")
    return asked if os.path.exists(asked) else tempfile.gettempdir()


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


def probe(folder: Path, device: str, data: str, output: str) -> int:
    """Write this process's files into `folder`."""
    rank = os.environ.get("RANK", "0")
    alone = bool(os.environ.get("LONGSEQ_EXPECTED_HOST"))
    name = f"alone-{socket.gethostname()}" if alone else rank
    if os.environ.get("LOCAL_RANK", "0") == "0":
        _write(folder / f"report-{name}.json", host_report(data, output, device))
    if alone:
        return 0
    found: dict[str, Any] = {"host": socket.gethostname()}
    fails = "cannot_import"
    try:
        import_module("torch.distributed")
        fails = "error"
        from longseq.doctor.network import look

        look(device, folder, found)
    except Exception as error:  # whatever a library raises is what we want to know
        last = (str(error).strip() or repr(error)).splitlines()[0]
        found[fails] = f"{type(error).__name__}: {last}"
    _write(folder / f"net-{rank}.json", found)
    return 0 if found.get("right") else 1


def _write(path: Path, content: dict[str, Any]) -> None:
    replace_file(path, json.dumps(content))
