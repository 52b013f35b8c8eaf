"""The preflight over 2 to 64 simulated hosts: how long, how much of the CPU and of memory.

All hosts are on the cores of this one machine (tests/launch/cluster.py, needs root), so the seconds
are those of a machine that imports torch for all of them; what a host adds is its CPU seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import tempfile
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from benchmarks.table import Table
from tests.launch.cluster import Cluster, why_not
from tests.launch.shell import Tree


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--hosts", type=int, nargs="+", default=[2, 8, 32, 64])
    parser.add_argument("--wait", type=int, default=1800, help="PREFLIGHT_SECONDS")


def gib_of(marker: str) -> float:
    """Memory of all processes whose command line holds `marker`, shared pages counted once."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() not in (folder / "cmdline").read_bytes():
                continue
            lines = (folder / "smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 2**20


def children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def many_neighbours() -> Iterator[None]:
    """Each host knows all others' addresses, and the kernel has one table for all hosts here."""
    path = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
    before = path.read_text()
    path.write_text("16384")
    try:
        yield
    finally:
        path.write_text(before)


class Most:
    """The most memory of the probes below a folder, looked at twice a second; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.gib, self._ended = folder, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            self.gib = max(self.gib, gib_of(f"{self.folder}"))

    def __enter__(self) -> Most:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def preflight(tree: Tree, folder: Path, count: int, wait: int) -> tuple[float, ...]:
    """Seconds, CPU seconds, GiB and GB/s of the slowest pair over `count` hosts."""
    names = [f"n{number:03d}" for number in range(count)]
    with Cluster(folder, names) as cluster:
        (folder / "nodes").write_text("".join(f"{name}\n" for name in names))
        env = {"HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": cluster.ssh, "NGPU_PER_HOST": "1"}
        env |= {"HOSTFILE": str(folder / "nodes"), "PREFLIGHT_SECONDS": str(wait)}
        _, full = tree.command(**env)
        command = [
            *cluster.enter(names[0]),
            "/bin/bash",
            str(tree.root / "ALCF/doctor.sh"),
            "--json",
        ]
        before, began = children_seconds(), time.perf_counter()
        with Most(tree.root) as most:
            done = subprocess.run(command, env=full, capture_output=True, text=True, check=False)
        took = time.perf_counter() - began
        found = json.loads(done.stdout)
        assert found["ok"], found["faults"] or {n: h["reason"] for n, h in found["hosts"].items()}
        rates = found["links_gb_per_second"].values()
        return took, children_seconds() - before, most.gib, min(rates)


def main(options: Namespace) -> str:
    if reason := why_not():
        print(f"not measured: {reason}")
        return "not measured"
    columns = (
        ("seconds", ".1f"),
        ("CPU seconds a host", ".2f"),
        ("GiB", ".1f"),
        ("slowest pair, GB/s", ".3g"),
    )
    table = Table(("hosts", ","), *columns)
    print(f"load of this machine before: {os.getloadavg()[0]:.0f}")
    with many_neighbours(), tempfile.TemporaryDirectory() as name:
        (Path(name) / "home").mkdir()
        tree = Tree(Path(name) / "tree", Path(name) / "home")
        tree.environment()
        for count in options.hosts:
            took, cpu, gib, rate = preflight(
                tree, Path(name) / f"hosts{count}", count, options.wait
            )
            table.row(count, took, cpu / count, gib, rate)
    return f"{took:.0f} s over {count} hosts"
