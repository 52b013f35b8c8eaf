"""Folders for offload to files: nobody else's, cleared away, on a disk that can hold them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from longseq.config.arguments import Config, Data, Layout, Memory, Network, Run, Training
from longseq.engine import nvme
from longseq.errors import UserError
from longseq.run.safety.stopping import Stopper
from longseq.run.safety.watch import Watch
from longseq.training import loop
from tests.parallel.ranks import operator_folder, operator_is_built

ROOT = Path(__file__).parents[3]
HOLD = """
import sys, time
from pathlib import Path
from longseq.engine import nvme
folder = nvme.claim(Path(sys.argv[1]))
(folder / "rank0").mkdir()
(folder / "rank0" / "weights.swp").write_bytes(b"x" * 4096)
print(folder, flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def tidy(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("PATH", os.environ["PATH"])  # a build changes it: it is put back
    yield
    nvme.release()


def test_a_process_has_a_folder_of_its_own_and_removes_it(tmp_path: Path) -> None:
    folder = nvme.claim(tmp_path)
    assert nvme.claim(tmp_path) == folder
    assert nvme.remove_abandoned(tmp_path) == []
    assert folder.is_dir()
    nvme.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("removed", [False, True])
def test_one_at_a_time_also_where_the_gate_was_removed(tmp_path: Path, removed: bool) -> None:
    """Whoever waits for a gate that its holder removes takes another, as who comes later does."""
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        gate = stack.enter_context(nvme._gate(tmp_path))
        waits = pool.submit(nvme.claim, tmp_path)
        if removed:
            gate.unlink()
        else:
            nvme._remove_gate(tmp_path)  # somebody holds it
            assert gate.exists()
        stack.close()
        folder = waits.result(10)
    assert folder.is_dir()
    nvme._remove_gate(tmp_path)  # its folder is there
    assert gate.exists()
    nvme.release()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_begin_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoint, say, is refused when its state lies in files already."""

    class Refused:
        def __init__(self, *_: object) -> None:
            nvme.claim(tmp_path)
            raise UserError("no")

    monkeypatch.setattr(loop, "Training", Refused)
    config = Config(Network(), Layout(), Memory(), Training(), Data(), Run())
    with pytest.raises(UserError):
        loop.train(config, Watch(Stopper()))
    assert list(tmp_path.glob(f"{nvme.PREFIX}*")) == []


def test_a_killed_process_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        theirs = Path(process.stdout.readline().strip())
        ours = nvme.claim(tmp_path)
        assert theirs.is_dir()  # alive: its files stay
        assert ours != theirs
        process.send_signal(signal.SIGKILL)
    nvme.release()
    again = nvme.claim(tmp_path)
    assert not theirs.exists()
    assert again.is_dir()


def test_other_folders_and_links_stay(tmp_path: Path) -> None:
    inside = tmp_path / "precious"
    inside.mkdir()
    (inside / "in-use").touch()
    (tmp_path / f"{nvme.PREFIX}link").symlink_to(inside)
    nvme.claim(tmp_path)
    assert (inside / "in-use").exists()


def test_memory_is_no_disk() -> None:
    with pytest.raises(UserError, match="is memory"):
        nvme.check_disk(Path("/dev/shm"), 1)


def test_a_small_disk_is_refused_with_both_sizes(tmp_path: Path) -> None:
    if nvme.file_system(tmp_path) in nvme.MEMORY:
        pytest.skip("the temporary folder is in memory")
    with pytest.raises(UserError, match=r"GiB free and this run puts 1048576.0 GiB there"):
        nvme.check_disk(tmp_path, 2**50)
    assert "GiB/s" in nvme.check_disk(tmp_path / "new", 2**20)


def test_a_path_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"NVME_PATH"):
        nvme.check_disk(tmp_path / "file", 1)


def test_the_innermost_mount_counts(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    inner = tmp_path / "a b"
    mounts.write_text(
        f"/dev/x / ext4 rw 0 0\nnone {str(inner).replace(' ', chr(92) + '040')} tmpfs rw 0 0\n"
    )
    assert nvme.file_system(inner / "c", mounts) == "tmpfs"
    assert nvme.file_system(tmp_path / "a bc", mounts) == "ext4"


def test_without_libaio_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepspeed.ops.op_builder import AsyncIOBuilder

    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr(AsyncIOBuilder, "is_compatible", lambda self: False)
    with pytest.raises(UserError, match=r"needs libaio: .*libaio"):
        nvme.build_operator()


def test_the_lock_of_a_killed_build_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    left = tmp_path / "async_io" / "lock"
    left.parent.mkdir()
    left.touch()
    seen = []
    monkeypatch.setattr(nvme, "_load_operator", lambda folder: seen.append(left.exists()))
    nvme.build_operator()
    assert seen == [False]


USE = """
from longseq.engine import nvme
nvme.use_operator()
from deepspeed.ops.op_builder import AsyncIOBuilder
print(AsyncIOBuilder().load(verbose=False).__file__)
"""


@pytest.mark.skipif(not operator_is_built(), reason="async_io is not built")
def test_a_lock_that_a_killed_rank_left_holds_up_nobody(tmp_path: Path) -> None:
    for name in nvme.OPERATORS:
        built = tmp_path / name / f"{name}.so"
        built.parent.mkdir()
        shutil.copy(Path(operator_folder()) / name / f"{name}.so", built)
        (built.parent / "lock").touch()
    env = os.environ | {"TORCH_EXTENSIONS_DIR": str(tmp_path), "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-c", USE]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=90)
    assert done.stdout.splitlines()[-1:] == [str(built)], done.stderr


def test_an_operator_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    for name in reversed(nvme.OPERATORS):
        built = tmp_path / name / f"{name}.so"
        built.parent.mkdir()
        built.write_text("of another machine")
    env = os.environ | {"TORCH_EXTENSIONS_DIR": str(tmp_path), "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-c", USE]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=90)
    assert f"remove {built.parent}, so that the next run" in done.stderr


def test_the_build_uses_the_ninja_that_ranks_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version's log is not read: each rank would compile the operator again."""
    system = tmp_path / "system"
    system.mkdir()
    (system / "ninja").write_text("#!/bin/sh\n")
    (system / "ninja").chmod(0o755)
    monkeypatch.setenv("PATH", str(system))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    seen = []
    monkeypatch.setattr(nvme, "_load_operator", lambda folder: seen.append(shutil.which("ninja")))
    nvme.build_operator()
    assert seen == [f"{sys.prefix}/bin/ninja"]


def test_two_builds_take_turns(tmp_path: Path) -> None:
    """The second waits for the first, and its lock: it must not remove one that is in use."""
    script = """
import sys, time
from longseq.engine import nvme
def build(folder):
    print("begins", time.monotonic(), flush=True)
    time.sleep(0.5)
    print("ends", time.monotonic(), flush=True)
nvme._load_operator = build
nvme.build_operator()
"""
    env = os.environ | {"TORCH_EXTENSIONS_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    both = [
        subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    spans = []
    for process in both:
        words = process.communicate(timeout=60)[0].split()
        spans.append((float(words[1]), float(words[3])))
    first, second = sorted(spans)
    assert first[1] <= second[0]
    assert time.monotonic() > second[1]


def test_architectures_with_letters_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """By DeepSpeed's own reader of TORCH_CUDA_ARCH_LIST, which fails on an H200's image's."""
    from deepspeed.ops.op_builder.async_io import AsyncIOBuilder  # that of GPUs

    listed = "9.0a;10.0f+PTX 8.0"
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", listed)
    builder = AsyncIOBuilder()
    builder.jit_mode = True
    with pytest.raises(ValueError, match="0a"):
        builder.compute_capability_args()
    with nvme._plain_architectures():
        builder.compute_capability_args()
        assert os.environ["TORCH_CUDA_ARCH_LIST"] == "8.0;9.0;10.0+PTX"
    assert os.environ["TORCH_CUDA_ARCH_LIST"] == listed
