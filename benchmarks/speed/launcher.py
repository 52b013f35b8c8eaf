"""How long ./ALCF/train-gpt3.sh takes before its ranks run, and the preflight of four hosts.

The first figure ends where the first rank's Python runs its first line: all of bash, the checks of
`longseq check`, the launcher's own start and Python's. The preflight's hosts are simulated
(tests/launch/cluster.py, needs root), on the cores of this one machine.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from benchmarks.table import Table
from benchmarks.timing import seconds
from tests.launch.cluster import Cluster, why_not
from tests.launch.shell import Tree

HOSTS = ["alpha", "beta", "gamma", "delta"]
FIRST_LINE = """
import time
now = time.time()
import os
open(os.path.join(os.environ["WANDB_NOTES"], os.environ["RANK"]), "w").write(str(now))
"""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--preflights", type=int, default=3)


def seconds_to_first_line(tree: Tree, notes: Path) -> float:
    """From the command to the first rank's first line."""
    began = time.time()
    result = tree.launch(WANDB_NOTES=str(notes))
    assert result.returncode == 0, result.stderr
    return min(float(path.read_text()) for path in notes.iterdir()) - began


def seconds_of_preflight(tree: Tree, cluster: Cluster) -> float:
    """All of `longseq doctor` on four hosts, from the command to the verdict."""
    env = {"HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": cluster.ssh, "NGPU_PER_HOST": "1"}
    _, full = tree.command(**env, HOSTFILE=str(cluster.folder / "nodes"))
    command = [*cluster.enter("alpha"), "/bin/bash", str(tree.root / "ALCF/doctor.sh")]
    return seconds(lambda: subprocess.run(command, env=full, check=True, capture_output=True))


def main(options: Namespace) -> str:
    table = Table(("what", "<42"), ("median s", ".2f"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for sub in ("home", "notes"):
            (folder / sub).mkdir()
        tree = Tree(folder / "tree", folder / "home")
        tree.environment()
        tree.trainer(FIRST_LINE)
        times = [seconds_to_first_line(tree, folder / "notes") for _ in range(options.repeats)]
        first = statistics.median(times)
        table.row("command to the first rank's first line", first)
        if reason := why_not():
            print(f"preflight not measured: {reason}")
            return f"{first:.2f} s; not measured"
        with Cluster(folder / "hosts", HOSTS) as cluster:
            (cluster.folder / "nodes").write_text("".join(f"{host}\n" for host in HOSTS))
            times = [seconds_of_preflight(tree, cluster) for _ in range(options.preflights)]
        table.row("longseq doctor over 4 simulated hosts", statistics.median(times))
    return f"{first:.2f} s; {statistics.median(times):.1f} s"
