"""Start real ranks under mpiexec and read what rank 0 says."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MPIEXEC = shutil.which("mpiexec") or str(Path(sys.executable).with_name("mpiexec"))


def free_port() -> str:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def operator_folder() -> str:
    """Where DeepSpeed's operator for offload to files is built."""
    return os.environ.get("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "extensions"))


def operator_is_built() -> bool:
    return (Path(operator_folder()) / "async_io" / "async_io.so").exists()


def run_ranks(count: int, program: Path, *arguments: str, **environ: str) -> Any:
    """The JSON of the last line that `program` prints on `count` ranks; fails with their output."""
    env = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "TORCH_EXTENSIONS_DIR": operator_folder(),
        "PYTHONPATH": str(ROOT),
        **environ,
    }
    command = [MPIEXEC, "-n", str(count), "sh", str(ROOT / "ALCF/rank.sh"), sys.executable]
    done = subprocess.run(
        [*command, str(program), *arguments], env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return json.loads(done.stdout.strip().splitlines()[-1])
