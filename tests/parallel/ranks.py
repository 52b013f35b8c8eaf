"""Start real ranks under mpiexec and read what rank 0 says."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# The environment's, or the one that `install.sh --test` lays beside the machine's own MPI
MPICH = Path(sys.prefix)
if not (MPICH / "bin/mpiexec").exists():
    MPICH = MPICH / "mpich"
MPIEXEC = str(MPICH / "bin/mpiexec")


def free_port() -> str:
    """A port that nobody listens on now, and below those that a system gives to whoever connects:
    ranks listen on it seconds later, beside other tests.
    """
    while True:
        port = random.SystemRandom().randrange(20000, 32768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return str(port)


def operator_folder() -> str:
    """Where DeepSpeed's operator for offload to files is built."""
    return os.environ.get("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "extensions"))


def operator_is_built() -> bool:
    return (Path(operator_folder()) / "async_io" / "async_io.so").exists()


def mpi_environ() -> dict[str, str]:
    """What makes mpi4py use MPIEXEC's library and not the machine's."""
    if Path(sys.prefix) == MPICH:
        return {}  # it looks there by itself
    return {"MPI4PY_LIBMPI": str(MPICH / "lib/libmpi.so.12")}


def shared_files() -> set[str]:
    """What lies in /dev/shm now."""
    return {path.name for path in Path("/dev/shm").iterdir()}


def left_in_shared_memory(before: set[str], part: str = "", seconds: float = 5) -> set[str]:
    """The files that came to /dev/shm since `before` and that no process has mapped any more.

    Those of other runs beside this one are mapped, or gone within `seconds`. part: of their names.
    """
    end = time.monotonic() + seconds
    while True:
        mapped = ""
        for maps in Path("/proc").glob("[0-9]*/maps"):
            with contextlib.suppress(OSError):  # it has ended
                mapped += maps.read_text(errors="replace")
        new = {name for name in shared_files() - before if part in name}
        left = {name for name in new if f"/dev/shm/{name}" not in mapped}
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.1)


def rank_environ(**environ: str) -> dict[str, str]:
    """What ranks that MPIEXEC starts need: a place to meet, one thread each, MPIEXEC's library."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    ours = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    return os.environ | ours | mpi_environ() | environ


def rank_command(count: int) -> list[str]:
    """What starts a Python program on `count` ranks; its path or `-m MODULE` follows."""
    return [MPIEXEC, "-n", str(count), "sh", str(ROOT / "ALCF/rank.sh"), sys.executable]


def run_ranks(count: int, program: Path, *arguments: str, **environ: str) -> Any:
    """The JSON of the last line that `program` prints on `count` ranks; fails with their output."""
    env = rank_environ(TORCH_EXTENSIONS_DIR=operator_folder(), **environ)
    command = [*rank_command(count), str(program), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return json.loads(done.stdout.strip().splitlines()[-1])
