"""BROADCAST=1: ranks run from their own host's disk (ALCF/broadcast.sh)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch.cluster import Cluster, why_not
from tests.launch.shell import Result, Tree

HOSTS = ["alpha", "beta", "gamma"]
STUB = """
import os, pathlib, sys
place = pathlib.Path(sys.prefix)
folder = pathlib.Path(os.environ["WANDB_NOTES"])
(folder / os.uname().nodename).write_text(f"{place}\\n{(place / 'mark').read_text()}")
"""


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Cluster]:
    """Three hosts, each with a disk of its own at TMPDIR."""
    if reason := why_not():
        pytest.skip(reason)
    (tmp_path / "nodes").write_text("".join(f"{name}\n" for name in HOSTS))
    (tmp_path / "disk").mkdir()
    with Cluster(tmp_path / "hosts", HOSTS) as cluster:
        for name in HOSTS:
            mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(tmp_path / "disk")]
            subprocess.run([*cluster.enter(name), *mount], check=True)
        yield cluster


def train(tree: Tree, hosts: Cluster, tmp_path: Path) -> Result:
    env = {"HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": hosts.ssh, "PREFLIGHT": "0"}
    env |= {"HOSTFILE": str(tmp_path / "nodes"), "NGPU_PER_HOST": "1", "MPSIZE": "1"}
    env |= {"BROADCAST": "1", "TMPDIR": str(tmp_path / "disk"), "LONGSEQ_PATIENCE": "60"}
    (tmp_path / "seen").mkdir(exist_ok=True)
    command, full = tree.command(**env, WANDB_NOTES=str(tmp_path / "seen"))
    return subprocess.run(
        [*hosts.enter("alpha"), *command], env=full, cwd=tree.root, capture_output=True, text=True
    )


def seen(tmp_path: Path) -> dict[str, list[str]]:
    return {path.name: path.read_text().splitlines() for path in (tmp_path / "seen").iterdir()}


def test_ranks_run_from_their_own_disk(tree: Tree, hosts: Cluster, tmp_path: Path) -> None:
    venv = tree.environment("workstation")
    (venv / "mark").write_text("this one")
    tree.trainer(STUB)
    done = train(tree, hosts, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the environment is on the hosts' own disks" in done.stderr
    assert "GiB to 3 host(s) in" in done.stderr
    found = seen(tmp_path)
    assert sorted(found) == HOSTS
    for place, mark in found.values():
        assert place.startswith(f"{tmp_path}/disk/longseq-0-")
        assert mark == "this one"
    for name in HOSTS:  # nothing is left there
        left = [*hosts.enter(name), "find", str(tmp_path / "disk"), "-mindepth", "1"]
        assert subprocess.run(left, capture_output=True, text=True).stdout == ""
    # One whose disk cannot be written: all read the shared one, and that is said
    disk = ["mount", "-o", "remount,ro", str(tmp_path / "disk")]
    subprocess.run([*hosts.enter("beta"), *disk], check=True)
    done = train(tree, hosts, tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"could not be copied to all hosts, so it is read from {venv}: longseq:" in done.stderr
    assert {place for place, _ in seen(tmp_path).values()} == {str(venv)}
