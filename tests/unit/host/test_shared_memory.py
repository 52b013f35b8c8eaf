"""DeepSpeed's files in /dev/shm: removed when nobody uses them, kept otherwise, not made by us."""

import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from longseq.host.shared_memory import SHM, remove_stale

OLD = 3600


@pytest.fixture(params=["deepspeed_allreduce_buffer_0_x_", "mpich_shm_x_"])
def buffer(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An old one, in a folder of its own: ranks that start meanwhile tidy /dev/shm itself up."""
    folder = Path(tempfile.mkdtemp(dir=SHM))
    path = folder / f"{request.param}test"
    path.write_bytes(b"x" * 4096)
    os.utime(path, (time.time() - OLD, time.time() - OLD))
    yield path
    shutil.rmtree(folder)


def test_abandoned_buffer_is_removed(buffer: Path, tmp_path: Path) -> None:
    assert remove_stale(buffer.parent) == [buffer]
    assert not buffer.exists()
    assert remove_stale(tmp_path) == []


def test_buffer_in_use_stays(buffer: Path) -> None:
    with buffer.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        assert remove_stale(buffer.parent) == []
    assert buffer.exists()


def test_buffer_of_a_starting_run_stays(buffer: Path) -> None:
    os.utime(buffer)
    assert remove_stale(buffer.parent) == []
    assert buffer.exists()


def test_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "nccl-abc").touch()
    assert remove_stale(tmp_path, now=time.time() + OLD) == []
    assert (tmp_path / "nccl-abc").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_other_users_files_stay(tmp_path: Path) -> None:
    path = tmp_path / "deepspeed_allreduce_buffer_1_x_0"
    path.touch()
    os.chown(path, 1, 1)
    assert remove_stale(tmp_path, now=time.time() + OLD) == []


START = """
import os, sys
from longseq.parallel.tensor import uncompiled
import deepspeed
from longseq.host.shared_memory import keep_off
keep_off()
os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1")
os.environ["MASTER_PORT"] = "0"
deepspeed.init_distributed("gloo", auto_mpi_discovery=False, verbose=False)
import torch
tensor = torch.ones(3)
deepspeed.comm.all_reduce(tensor)
print("sum", tensor.tolist(), "operator", deepspeed.comm.comm.cdb.shm_comm_op is not None)
"""


def test_deepspeed_makes_none_and_torch_no_folder_in_tmpdir(tmp_path: Path) -> None:
    before = set(SHM.glob("deepspeed_*"))
    done = subprocess.run(
        [sys.executable, "-c", START],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert list(tmp_path.iterdir()) == []
    assert done.stdout.splitlines()[-1] == "sum [1.0, 1.0, 1.0] operator False"
    assert set(SHM.glob("deepspeed_*")) <= before
