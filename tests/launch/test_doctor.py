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

import pytest

from tests.launch.cluster import Cluster, why_not
from tests.launch.shell import Result, Tree, write_script

HOSTS = ["alpha", "beta", "gamma", "delta"]


def test_what_a_preflight_waits_for_is_said(bash: Callable[..., Result], tmp_path: Path) -> None:
    """As if it had begun 30 seconds ago. Four ranks a host, of which the first reports."""
    (tmp_path / "report-0.json").touch()
    script = """sleep 1 & began=$SECONDS; SECONDS=0
        eval "$(declare -f longseq_wait_for_probe | sed 's/began=$SECONDS/began=-30/')"
        longseq_wait_for_probe $! "$1" 64 4 alpha beta"""
    said = bash(script, str(tmp_path)).stderr
    assert re.fullmatch(
        r"longseq: preflight: 1 of 2 host\(s\) have answered after 3\d s, not beta; 0 of 8"
        r" rank\(s\) are done with the others; it waits for 64 s \(PREFLIGHT_SECONDS\)\n",
        said,
    )


@pytest.mark.parametrize(
    ("env", "asked"),
    [
        ({"MACHINE": "polaris"}, "--transport libfabric --least 10"),
        ({"MACHINE": "polaris", "LEAST_BANDWIDTH": "2.5"}, "--transport libfabric --least 2.5"),
        ({"MACHINE": "polaris", "SITE_NCCL": "0"}, ""),
        ({"MACHINE": "polaris", "NCCL_NET": "Socket"}, ""),
        ({"MACHINE": "polaris", "DS_ACCELERATOR": "cpu"}, ""),
        ({"MACHINE": "sophia"}, "--transport ib --least 40"),
        ({"MACHINE": "sophia", "NCCL_IB_DISABLE": "1"}, ""),
        ({"MACHINE": "slurm", "LEAST_BANDWIDTH": "1"}, "--least 1"),
    ],
)
def test_what_is_asked_of_the_network(
    bash: Callable[..., Result], env: dict[str, str], asked: str
) -> None:
    """The profile's floor and transport on its GPUs, unless its user has chosen another network."""
    script = """longseq_find_machine; LONGSEQ_DEVICE=${DS_ACCELERATOR:-cuda}
        longseq_read_variables; LONGSEQ_VALUE[SITE_NCCL]=${SITE_NCCL:-1}
        longseq_asked_of_network; echo "${LONGSEQ_ASKED[*]-}" """
    assert bash(script, **env).stdout.strip() == asked


def test_an_address_that_is_none_is_no_hosts_fault(tree: Tree) -> None:
    tree.environment()
    new = tree.root / "new"
    env = tree.command(
        MASTER_ADDR="no.such.host.invalid", WANDB_API_KEY="k" * 40, OUTPUT_DIR=str(new)
    )[1]
    doctor = ["/bin/bash", str(tree.root / "ALCF/doctor.sh")]
    done = subprocess.run(doctor, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "MASTER_ADDR=no.such.host.invalid has no address here" in done.stderr
    assert not new.exists()  # what it made to look at is gone with it


DYING_JUDGE = """
longseq_probe() { :; }
declare -A LONGSEQ_VALUE=([PREFLIGHT]=1 [LEAST_BANDWIDTH]= [WALLTIME]=)
LONGSEQ_HOSTS=(alpha beta) LONGSEQ_ALLOCATION=(alpha beta)
LONGSEQ_DEVICE=cpu LONGSEQ_RANKS_PER_HOST=1
LONGSEQ_RUN=$1 LONGSEQ_JOB=$1 LONGSEQ_PYTHON=$1/python
mkdir "$1/log"
longseq_preflight
longseq_find_failed 137
echo "${LONGSEQ_HOSTS[*]}, ${#LONGSEQ_FAILED[@]} failed"
"""


@pytest.mark.parametrize("ends", ["kill -KILL $$", "exit 69", "exit 1"])
def test_a_doctor_that_dies_blames_no_host(
    bash: Callable[..., Result], tmp_path: Path, ends: str
) -> None:
    """Before a run and after one that failed; the exit code alone is no verdict either."""
    write_script(tmp_path / "python", f"#!/bin/sh\n{ends}\n")
    done = bash(DYING_JUDGE, str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "alpha beta, 0 failed\n"), done.stderr
    assert "longseq: note: the doctor itself failed (exit code" in done.stderr
    assert "No such file" not in done.stderr
    assert not (tmp_path / "bad-hosts.txt").exists()


# ---------------------------------------------------------------- on hosts


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := why_not("tc"):
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
    nodes["PREFLIGHT_SECONDS"] = "200"  # where much else runs, torch's import takes a minute
    _, full = tree.command(**hydra, **nodes, **env)
    return subprocess.run(
        [*cluster.enter("alpha"), *program],
        env=full,
        cwd=tree.root,
        capture_output=True,
        text=True,
        timeout=300,
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
        without = {"RESTARTS": "0", "RUN_BY": f"{tmp_path}/again-"}
        refused = on_first(hosts, ready, train, MPSIZE="1", **without)
        assert refused.returncode == 69, refused.stderr
        assert "gamma  BAD  does not answer" in refused.stderr
        assert not list(tmp_path.glob("again-*"))
        # Of three hosts none can share out four ranks' batch, of two they can
        fewer = on_first(hosts, ready, train, MPSIZE="1", RUN_BY=f"{tmp_path}/fewer-")
        assert fewer.returncode == 0, fewer.stderr
        assert "restart 1 of 2 on 2 host(s), without gamma: does not answer" in fewer.stderr
        assert len(list(tmp_path.glob("fewer-*"))) == 2
        assert nothing_runs_from(ready.root)
    finally:
        pid.write_text(alive)


def test_an_environment_that_does_not_import_is_no_hosts_fault(
    hosts: Cluster, ready: Tree, tmp_path: Path
) -> None:
    """One line with the remedy; nobody is blamed, and nobody asked again."""
    module = ready.root / "torch.py"  # before the real one on the path of the doctor
    module.write_text("raise ImportError('libcudart.so.12: cannot open shared object file')\n")
    train, job = [str(ready.root / "ALCF/train-gpt3.sh")], {"LONGSEQ_JOB": str(tmp_path)}
    try:
        done = on_first(hosts, ready, train, MPSIZE="1", RUN_BY=f"{tmp_path}/ran-", **job)
    finally:
        module.unlink()
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1] == (
        "longseq: torch cannot be imported on any host (ImportError: libcudart.so.12: cannot open"
        " shared object file): ./install.sh --recreate makes the environment anew"
    )
    assert done.stderr.count("longseq: ") == 1
    assert not [*tmp_path.iterdir()]


def test_a_slow_host_is_named(hosts: Cluster, ready: Tree) -> None:
    """Twenty megabits a second to and from gamma; the others have what memory carries."""
    hosts.slow("gamma", "20mbit")
    try:
        doctor = ["/bin/bash", str(ready.root / "ALCF/doctor.sh"), "--json"]
        result = on_first(hosts, ready, doctor)
    finally:
        hosts.slow("gamma", "")
    assert result.returncode == 69, result.stdout + result.stderr
    found = json.loads(result.stdout)
    assert [name for name, host in found["hosts"].items() if not host["ok"]] == ["gamma"]
    assert "slow: at most 0.00" in found["hosts"]["gamma"]["reason"]
    rates = found["links_gb_per_second"]
    assert len(rates) == 6
    slow = [rate for link, rate in rates.items() if "gamma" in link]
    assert max(slow) <= 0.0026  # what the cable carries
    assert min(rate for rate in rates.values() if rate not in slow) > 0.01


def test_the_doctor_takes_no_other_words(ready: Tree) -> None:
    command = [sys.executable, "-m", "longseq", "doctor", "everything"]
    result = subprocess.run(command, cwd=ready.root, capture_output=True, text=True)
    assert result.returncode == 2
    assert "invalid choice: 'everything'" in result.stderr
