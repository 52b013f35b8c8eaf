"""longseq doctor, and as the preflight of every launch on several hosts: who is bad, by name."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from longseq.doctor import probe
from longseq.doctor.judge import judge, table
from tests.launch.cluster import Cluster, why_not
from tests.launch.shell import Result, Tree, write_script

HOSTS = ["alpha", "beta", "gamma", "delta"]
WELL: dict[str, Any] = {
    "expected": "",
    "python": "3.11.7",
    "executable": "/venv/bin/python",
    "versions": {"torch": "2.13.0", "deepspeed": "0.19.8"},
    "gpus": [{"use": 0.0, "taken_gib": 0.01}] * 4,
    "scratch_gib": 100.0,
    "shared_memory_gib": 100.0,
    "output_gib": 100.0,
    "data": "",
    "port": "",
}
NET = {"right": True, "clock_seconds": 0.01, "bytes": 8, "seconds": 1e-9, "gb_per_second": 8.0}


def told(folder: Path, host: str, net: dict[str, Any] | None = None, **other: Any) -> None:
    """Write what the probe on that host would have written."""
    rank = HOSTS.index(host)
    report = WELL | {"host": host} | other
    (folder / f"report-{rank}.json").write_text(json.dumps(report))
    (folder / f"net-{rank}.json").write_text(json.dumps({"host": host} | NET | (net or {})))


@pytest.mark.parametrize(
    ("other", "net", "reason"),
    [
        ({"python": "3.12.1"}, {}, "Python 3.12.1, the others 3.11.7"),
        ({"versions": {"torch": "2.12.0", "deepspeed": "0.19.8"}}, {}, "torch 2.12.0, the others"),
        ({"versions": {"torch": "2.13.0"}}, {}, "deepspeed missing, the others 0.19.8"),
        ({"gpus": [{"use": 0, "taken_gib": 0}] * 3}, {}, "3 GPU(s) in sight, 4 are needed"),
        ({"gpus": None}, {}, "0 GPU(s) in sight"),
        ({"gpus": [*WELL["gpus"][:3], {"use": 99, "taken_gib": 30}]}, {}, "GPU 3 is in use"),
        ({"scratch_gib": 0.2}, {}, "0.20 GiB are free in TMPDIR"),
        ({"shared_memory_gib": 0.1}, {}, "/dev/shm"),
        ({"output_gib": None}, {}, "cannot write to OUTPUT_DIR"),
        ({"data": "/x.fa: Permission denied"}, {}, "cannot read the data: /x.fa: Permission"),
        ({"port": "port 20007: Address already in use"}, {}, "ranks cannot meet: port 20007"),
        ({}, {"clock_seconds": -63.0}, "the clock is -63.0 s off"),
        ({}, {"right": False}, "wrong sum"),
    ],
)
def test_a_bad_host_is_named_with_the_reason(
    tmp_path: Path, other: dict[str, Any], net: dict[str, Any], reason: str
) -> None:
    for host in HOSTS:
        told(tmp_path, host)
    assert judge(tmp_path, HOSTS, "cuda", 4).bad == {}
    told(tmp_path, "gamma", net, **other)
    verdict = judge(tmp_path, HOSTS, "cuda", 4)
    assert list(verdict.bad) == ["gamma"]
    assert reason in verdict.bad["gamma"]
    assert verdict.good == ["alpha", "beta", "delta"]
    assert any(line.startswith("gamma  BAD") and reason in line for line in table(verdict))


def test_who_says_nothing_does_not_answer(tmp_path: Path) -> None:
    for host in HOSTS[:-1]:
        told(tmp_path, host)
    verdict = judge(tmp_path, HOSTS, "cpu", 4)
    assert verdict.bad == {"delta": "does not answer"}
    assert verdict.slowest is None


def test_who_does_not_come_to_the_all_reduce_is_named(tmp_path: Path) -> None:
    """Its imports take longer than the others wait, and they have an error to tell."""
    for host in HOSTS:
        told(tmp_path, host)
    (tmp_path / "net-1.json").unlink()
    verdict = judge(tmp_path, HOSTS, "cpu", 4)
    assert list(verdict.bad) == ["beta"]
    assert "did not come to the all-reduce in time" in verdict.bad["beta"]


def test_the_all_reduce_waits_for_half_of_the_preflight() -> None:
    assert probe.patience({"LONGSEQ_PREFLIGHT": "572"}).total_seconds() == 286
    assert probe.patience({"LONGSEQ_PREFLIGHT": "40"}).total_seconds() == 30
    assert probe.patience({}).total_seconds() == 30


def test_what_a_preflight_waits_for_is_said(bash: Callable[..., Result], tmp_path: Path) -> None:
    """As if it had begun 30 seconds ago."""
    (tmp_path / "report-0.json").touch()
    script = """sleep 1 & began=$SECONDS; SECONDS=0
        eval "$(declare -f longseq_wait_for_probe | sed 's/began=$SECONDS/began=-30/')"
        longseq_wait_for_probe $! "$1" 64 alpha beta"""
    said = bash(script, str(tmp_path)).stderr
    assert re.fullmatch(
        r"longseq: preflight: 1 of 2 host\(s\) have answered after 3\d s, 0 have added up with the"
        r" others; it waits for 64 s \(PREFLIGHT_SECONDS\)\n",
        said,
    )


def test_little_room_for_the_output_is_a_remark(tmp_path: Path) -> None:
    for host in HOSTS:
        told(tmp_path, host, output_gib=2.0)
    verdict = judge(tmp_path, HOSTS, "cpu", 2)
    assert verdict.bad == {}
    assert "2.0 GiB are left" in verdict.remarks["alpha"]


def test_data_and_folders_are_tried(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_text(">a\nACGT\n")
    (tmp_path / "empty.bin").touch()
    assert probe.unreadable(str(tmp_path / "x.fa")) == ""
    assert "empty.bin is empty" in probe.unreadable(str(tmp_path / "empty"))
    assert "No such file" in probe.unreadable(str(tmp_path / "nothing"))
    assert probe.free_gib(str(tmp_path / "nothing")) is None
    free = probe.free_gib(str(tmp_path))
    assert free is not None
    assert free > 0


def test_gpus_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_script(tmp_path / "nvidia-smi", "#!/bin/sh\necho '3, 2048'\necho '[N/A], 10'\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert probe.gpus() == [
        {"use": 3.0, "taken_gib": 2.0},
        {"use": 0.0, "taken_gib": pytest.approx(10 / 1024)},
    ]
    write_script(tmp_path / "nvidia-smi", "#!/bin/sh\nexit 9\n")
    assert probe.gpus() is None


# ---------------------------------------------------------------- on hosts


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("hosts")
    with Cluster(folder, HOSTS) as cluster:
        (folder / "nodes").write_text("".join(f"{name}\n" for name in HOSTS))
        yield cluster


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    folder = tmp_path_factory.mktemp("doctor")
    (folder / "home").mkdir()
    tree = Tree(folder / "tree", folder / "home")
    tree.environment()
    tree.trainer("import os\nopen(os.environ['RUN_BY'] + os.uname().nodename, 'a').write('x')\n")
    return tree


def on_first(cluster: Cluster, tree: Tree, program: list[str], **env: str) -> Result:
    hydra = {"HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": cluster.ssh}
    nodes = {"HOSTFILE": str(cluster.folder / "nodes"), "NGPU_PER_HOST": "1"}
    _, full = tree.command(**hydra, **nodes, **env)
    return subprocess.run(
        [*cluster.enter("alpha"), *program],
        env=full,
        cwd=tree.root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def nothing_runs_from(root: Path) -> bool:
    """Whether within seconds no process is left, on any host, of programs below `root`."""
    for _ in range(50):
        commands = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                commands.append(path.read_bytes())
        if not any(str(root).encode() in command for command in commands):
            return True
        time.sleep(0.1)
    return False


def test_four_hosts_are_well(hosts: Cluster, ready: Tree) -> None:
    python = next(ready.root.glob("venvs/*/*/bin/python"))
    doctor = [str(python), "-m", "longseq", "doctor", "--json"]
    result = on_first(hosts, ready, doctor, PYTHONPATH=str(ready.root))
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(result.stdout)
    assert found["ok"]
    assert list(found["hosts"]) == HOSTS
    assert all(host["ok"] for host in found["hosts"].values())
    assert found["all_reduce_gb_per_second"] > 0
    assert found["hosts"]["beta"]["host"] == "beta"
    assert not list(ready.root.glob("outputs/doctor-*"))


def test_a_bad_host_is_left_out_where_there_is_a_spare_one(
    hosts: Cluster, ready: Tree, tmp_path: Path
) -> None:
    """gamma does not answer; three hosts are wanted of four, then four of four."""
    train, pid = [str(ready.root / "ALCF/train-gpt3.sh")], hosts.folder / "pid.gamma"
    alive = pid.read_text()
    hosts.unplug("gamma")
    try:
        env = {"RUN_BY": f"{tmp_path}/", "SPARE_NODES": "1"}
        spared = on_first(hosts, ready, train, MPSIZE="1", **env)
        assert spared.returncode == 0, spared.stdout + spared.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["alpha", "beta", "delta"]
        assert "gamma  BAD  does not answer" in spared.stderr
        refused = on_first(hosts, ready, train, MPSIZE="1", RUN_BY=f"{tmp_path}/again-")
        assert refused.returncode == 69, refused.stderr
        assert "gamma  BAD  does not answer" in refused.stderr
        assert not list(tmp_path.glob("again-*"))
        assert nothing_runs_from(ready.root)
    finally:
        pid.write_text(alive)


def test_the_doctor_takes_no_other_words(ready: Tree) -> None:
    command = [sys.executable, "-m", "longseq", "doctor", "everything"]
    result = subprocess.run(command, cwd=ready.root, capture_output=True, text=True)
    assert result.returncode == 2
    assert "invalid choice: 'everything'" in result.stderr
