"""`longseq doctor --measure`: the rates of the machine one is on, in the terms of its plan.

    facts = measure(Path("outputs"))       # a dict; its keys are the columns of host/gpus.py

Matrix products by precision and copies in memory on one rank's device, messages between two ranks
of this host, its memory, and the disk under a folder. Each is the best of a few tries: what the
hardware gives, not what a busy moment leaves. A few seconds; nothing is left behind. The disk
comes first, as it is what can be wrong: raises UserError where it does not take the file.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import psutil  # type: ignore[import-untyped]
import torch
import torch.distributed as dist

from longseq.errors import UserError
from longseq.host.atomic_files import sync_open

TRIES = 5
ENOUGH = 2.0  # seconds of tries: in bf16 some CPUs take a thousand times as long as others
MESSAGE = 64 * 2**20  # bytes between ranks: large enough for a link's full rate
FILE = 256 * 2**20
TITLES = {  # key → (what it is, unit)
    "gib": ("memory of a GPU", "GiB"),
    "half": ("matrix products in bf16", "TFLOP/s"),
    "full": ("matrix products in fp32", "TFLOP/s"),
    "memory_rate": ("copies in its memory, read and written", "TB/s"),
    "link": ("between two ranks of this host, one way", "GB/s"),
    "per_node": ("GPUs of this host", ""),
    "host_gib": ("memory of this host", "GiB"),
    "disk_write": ("disk, written and flushed", "GB/s"),
    "disk_read": ("disk, read back", "GB/s"),
}


def measure(folder: Path) -> dict[str, float]:
    """Every fact, by the keys of TITLES; those of GPUs are left out where there is none."""
    disk = zip(("disk_write", "disk_read"), disk_rates(folder), strict=True)
    gpus = torch.cuda.device_count()
    device = torch.device("cuda" if gpus else "cpu")
    facts: dict[str, float] = {}
    if gpus:
        facts |= {"gib": torch.cuda.mem_get_info()[1] / 2**30, "per_node": gpus}
    facts["half"] = matmul_rate(torch.bfloat16, device) / 1e12
    facts["full"] = matmul_rate(torch.float32, device) / 1e12
    facts["memory_rate"] = copy_rate(device) / 1e12
    if gpus != 1:  # one GPU has nobody to talk to
        facts["link"] = link_rate(device.type) / 1e9
    facts["host_gib"] = psutil.virtual_memory().total / 2**30
    return facts | {name: rate / 1e9 for name, rate in disk}


def table(facts: dict[str, float]) -> str:
    """A line a fact: the column of the table of GPUs, what it is, and how much."""
    lines = [f"{'key':<13}{'measured':>12}  {'':<9}what"]
    for key, value in facts.items():
        title, unit = TITLES[key]
        lines.append(f"{key:<13}{value:>12.4g}  {unit:<9}{title}")
    return "\n".join(lines)


def _best(run: Callable[[], None], device: torch.device, enough: float = ENOUGH) -> float:
    """Seconds of the quickest of a few calls, after one to warm up; of slow ones of fewer."""
    times: list[float] = []
    while len(times) < 2 or (len(times) <= TRIES and sum(times) < enough):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def matmul_rate(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of a square product, large enough to fill the device."""
    n = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return float(2 * n**3 / _best(lambda: _into(out, a, b), device))


def _into(out: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    torch.mm(a, b, out=out)


def copy_rate(device: torch.device) -> float:
    """Bytes a second that a copy reads and writes."""
    size = 2**30 if device.type == "cuda" else 2**28
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)

    return 2 * size / _best(copy, device)


def link_rate(kind: str) -> float:
    """Bytes a second from one rank to another of this host, over the backend of its devices."""
    from torch.multiprocessing.spawn import spawn

    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "seconds"
        spawn(_talk, args=(kind, str(Path(folder) / "store"), str(found)), nprocs=2)
        return MESSAGE / float(found.read_text())


def _talk(rank: int, kind: str, store: str, found: str) -> None:
    """One of two ranks: sends a message to and fro, and writes the seconds of one way."""
    backend = "nccl" if kind == "cuda" else "gloo"
    device = torch.device(kind, rank) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, init_method=f"file://{store}", rank=rank, world_size=2)
    message = torch.zeros(MESSAGE, dtype=torch.uint8, device=device)

    def there_and_back() -> None:
        for sender in (0, 1):
            if rank == sender:
                dist.send(message, 1 - rank)
            else:
                dist.recv(message, 1 - rank)

    seconds = _best(there_and_back, device, math.inf) / 2  # both ranks as often
    if rank == 0:
        Path(found).write_text(str(seconds))
    dist.destroy_process_group()


def disk_rates(folder: Path) -> tuple[float, float]:
    """Bytes a second, written and flushed, and read back without the page cache."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".measure-") as file:
            return _rates_of(file)
    except OSError as error:
        raise UserError(
            f"--disk {folder}: {error.strerror}: name a folder that takes {FILE >> 20} MiB"
        ) from None


def _rates_of(file: IO[bytes]) -> tuple[float, float]:
    block = os.urandom(2**24)
    began = time.perf_counter()
    for _ in range(FILE // len(block)):
        file.write(block)
    sync_open(file)
    wrote = time.perf_counter() - began
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    file.seek(0)
    began = time.perf_counter()
    while file.read(len(block)):
        pass
    return FILE / wrote, FILE / (time.perf_counter() - began)
