"""Offload to files on a local disk: a folder that no other run shares, and the operator for it.

    build_operator()                       # once, alone, before ranks start
    use_operator()                         # in each rank, before its engine
    check_disk(Path("/local/scratch"), need=2**30)     # raises UserError; a sentence for the screen
    folder = claim(Path("/local/scratch"))             # this rank's own, cleared away afterwards
    release()

DeepSpeed names its files by rank alone, so that two runs with one path would read each other's.
A rank that is killed leaves its folder; as nobody holds its lock any more, the next run removes it.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import IO

from longseq.config.arguments import Config
from longseq.errors import UserError
from longseq.host.atomic_files import reason, sync_open
from longseq.parallel.agreement import Ranks

PREFIX = "longseq-offload-"
OPERATORS = ("pin_memory", "async_io")  # as DeepSpeed calls them
MEMORY = ("tmpfs", "ramfs", "devtmpfs")
PROBE = 64 * 2**20  # bytes written to see how fast the disk is
TRIES = 5  # to remove a folder
PACKAGES = (
    ("apt-get", "apt-get install -y libaio-dev"),
    ("zypper", "zypper install -y libaio-devel"),
    ("dnf", "dnf install -y libaio-devel"),
)

_claimed: dict[Path, Path] = {}
_locks: list[IO[str]] = []


def claim(path: Path) -> Path:
    """Make a folder in `path` that only this process uses; called again, return the same folder.

    Folders that killed processes left in `path` are removed first. The file `in-use` in the new
    folder stays locked while this process lives: a folder without that lock has no owner.
    """
    if path not in _claimed:
        with _gate(path):
            remove_abandoned(path)
            folder = path / f"{PREFIX}{uuid.uuid4().hex[:8]}"
            _claimed[path] = folder  # before it is there: from then on `release` removes it
            folder.mkdir(mode=0o700)
            lock = (folder / "in-use").open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
        _locks.append(lock)
    return _claimed[path]


def release() -> None:
    """Remove what this process has claimed."""
    claimed = dict(_claimed)
    for folder in claimed.values():
        for _ in range(TRIES):  # writing that is under way may bring a file back
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
    for lock in _locks:
        lock.close()
    _claimed.clear()
    _locks.clear()
    for path in claimed:
        _remove_gate(path)


@contextmanager
def _gate(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[Path]:
    """For one process at a time: a folder that is made but not locked yet looks abandoned."""
    name, links = path / f".{PREFIX}gate", 0
    while not links:  # one that was removed while we waited holds nobody back
        with name.open("a") as gate:
            fcntl.flock(gate, how)
            links = os.fstat(gate.fileno()).st_nlink
            if links:
                yield name


def _remove_gate(path: Path) -> None:
    """Where no run has a folder in `path` any more, nor is about to: such a one holds the gate."""
    for _ in range(TRIES):
        with suppress(OSError):
            with _gate(path, fcntl.LOCK_EX | fcntl.LOCK_NB) as gate:
                if not any(path.glob(f"{PREFIX}*")):
                    gate.unlink()
            return
        time.sleep(0.05)


def remove_abandoned(path: Path) -> list[Path]:
    """Remove this user's folders that no living process holds; gives those removed."""
    removed = []
    for folder in sorted(path.glob(f"{PREFIX}*/")):
        try:
            if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
                continue
            with (folder / "in-use").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
        except OSError:  # in use, or gone meanwhile
            continue
    return removed


def check_disk(path: Path, need: int) -> str:
    """Refuse a path that cannot hold `need` bytes on a disk; says how fast that is."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        kind = file_system(path)
        if kind in MEMORY:
            raise UserError(
                f"--nvme-path {path} (NVME_PATH) is memory ({kind}), not a disk: name a folder on"
                " one, or keep what is offloaded in host memory (OFFLOAD_DEVICE=cpu)"
            )
        free = shutil.disk_usage(path).free
        if free < need:
            raise UserError(
                f"--nvme-path {path} (NVME_PATH) has {free / 2**30:.1f} GiB free and this run puts"
                f" {need / 2**30:.1f} GiB there: name a larger disk, or use more hosts"
            )
        speed = write_speed(path)
    except OSError as error:
        raise UserError(f"--nvme-path {path} (NVME_PATH): {reason(error)}") from None
    return f"{path} takes {speed / 2**30:.2f} GiB/s; {need / 2**30:.2f} GiB are kept there"


def check_all_disks(path: Path, share: int, ranks: Ranks) -> None:
    """Refuse, on every rank, a disk of any host that is too small for its ranks' shares (bytes)."""
    hosts = ranks.gather(socket.gethostname())
    problem = None
    if hosts.index(socket.gethostname()) == ranks.rank:  # the first of this host
        try:
            check_disk(path, share * hosts.count(socket.gethostname()))
        except UserError as error:
            problem = f"{socket.gethostname()}: {error}"
    for found in ranks.gather(problem):
        if found:
            raise UserError(found)


def bytes_kept(config: Config, parameters: int) -> int:
    """Bytes in files for `parameters` numbers: weights, fp32 masters, gradients and moments."""
    train = config.training
    weights = (4 if train.dtype == "fp32" else 2) if train.remote_device == "nvme" else 0
    return parameters * (weights + (16 if train.offload_optimizer == "nvme" else 0))


def wanted(config: Config) -> bool:
    """Is anything offloaded to files?"""
    return "nvme" in (config.training.offload_optimizer, config.training.remote_device)


def file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The type of the file system that holds `path`, "" where the system does not say."""
    best, kind = "", ""
    where = str(path.resolve())
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        _, point, this = line.split()[:3]
        point = point.replace("\\040", " ")
        inside = where == point or where.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, this
    return kind


def write_speed(path: Path) -> float:
    """Bytes a second that the disk takes, flushed."""
    block = os.urandom(2**20)
    with tempfile.TemporaryFile(dir=path) as file:
        began = time.perf_counter()
        for _ in range(PROBE // len(block)):
            file.write(block)
        sync_open(file)
        return PROBE / (time.perf_counter() - began)


def build_operator() -> None:
    """Compile DeepSpeed's async_io where that has not been done; some minutes, once.

    The kernel drops our lock when its owner dies, so that a `lock` of torch's that is there while
    we hold ours was left by a build that was killed; torch would wait for it for ever.

    Ranks find the environment's ninja first (ALCF/rank.sh), so this must too: the system's, of
    another version, keeps another log, and then every rank's ninja compiles everything again.
    """
    os.environ["PATH"] = os.pathsep.join([f"{sys.prefix}/bin", os.environ.get("PATH", os.defpath)])
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", os.path.join(sys.prefix, "extensions"))
    folder = Path(os.environ["TORCH_EXTENSIONS_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "longseq-build.lock").open("a") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        for left in folder.glob("*/lock"):
            left.unlink(missing_ok=True)
        _load_operator(folder)


def use_operator() -> None:
    """Give DeepSpeed the built operator, without asking torch to build it: torch does that under a
    lock, and one that a killed rank has left keeps every later one waiting for ever.
    """
    from deepspeed.ops.op_builder import AsyncIOBuilder
    from deepspeed.ops.op_builder.builder import OpBuilder
    from deepspeed.ops.op_builder.pin_memory import PinMemoryBuilder

    folder = Path(os.environ.get("TORCH_EXTENSIONS_DIR", os.path.join(sys.prefix, "extensions")))
    if not all(_library(folder, name).exists() for name in OPERATORS):
        build_operator()
    # In this order: the second one's symbols are in the first, which its builder makes global
    for builder in (PinMemoryBuilder(), AsyncIOBuilder()):
        if builder.name not in OpBuilder._loaded_ops:
            OpBuilder._loaded_ops[builder.name] = _imported(builder.name, folder)
        builder.load(verbose=False)


def _library(folder: Path, name: str) -> Path:
    return folder / name / f"{name}.so"


def _imported(name: str, folder: Path) -> ModuleType:
    built = _library(folder, name)
    spec = importlib.util.spec_from_file_location(name, built)
    assert spec
    assert spec.loader
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except (ImportError, OSError) as error:
        raise UserError(
            f"offload to NVMe: {built} cannot be loaded ({error}): remove {built.parent}, so"
            " that the next run compiles it anew"
        ) from None
    return module


def _load_operator(folder: Path) -> None:
    from deepspeed.ops.op_builder import AsyncIOBuilder

    builder = AsyncIOBuilder()
    if not builder.is_compatible():
        raise UserError(f"offload to NVMe needs libaio: {install_command()}")
    if not _library(folder, OPERATORS[-1]).exists():
        print("longseq: compiling DeepSpeed's async_io, once, some minutes", file=sys.stderr)
    try:
        with _plain_architectures():
            builder.load(verbose=False)
    except (RuntimeError, ImportError, OSError, ValueError) as error:
        text = " ".join(str(error).split())[:300]
        raise UserError(f"offload to NVMe: async_io did not compile: {text}") from None


@contextmanager
def _plain_architectures() -> Iterator[None]:
    """TORCH_CUDA_ARCH_LIST without the letters of 9.0a or 10.0f, which DeepSpeed 0.19.8 takes for
    digits: images for Hopper name them, and what is compiled here runs on the host alone.
    """
    listed = os.environ.get("TORCH_CUDA_ARCH_LIST")
    if listed is None:
        yield
        return
    os.environ["TORCH_CUDA_ARCH_LIST"] = re.sub(r"(?<=\d)[a-z]", "", listed)
    try:
        yield
    finally:
        os.environ["TORCH_CUDA_ARCH_LIST"] = listed


def install_command() -> str:
    """What installs libaio's headers here."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    for tool, command in PACKAGES:
        if shutil.which(tool):
            return sudo + command
    return "install the package libaio-dev or libaio-devel"
