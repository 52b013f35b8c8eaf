"""Two hosts, four ranks, a real training over every launcher: the losses of the one-host run.

The hosts are simulated (cluster.py). Hydra, Open MPI, Slurm are real; PALS is a strict stand-in.
The preflight runs over all four: under Hydra in test_doctor.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.launch.cluster import Cluster, why_not
from tests.launch.planned import (
    KILLED,
    PLANNED,
    runs_of,
    says_who_was_killed,
    seen,
    wait_for_job,
    wait_until,
)
from tests.launch.shell import ROOT, Tree, traced, write_script
from tests.launch.slurm import PROGRAMS, Slurm
from tests.parallel.ranks import MPICH, MPIEXEC

X3 = ["x3004c0s13b0n0", "x3004c0s13b1n0"]
TINY = """--num-layers 1 --hidden-size 64 --num-attention-heads 4 --seq-length 64
--max-position-embeddings 64 --train-iters 3 --eval-iters 0 --save-interval 0""".split()
SLOW = {"PREFLIGHT_SECONDS": "200"}  # where much else runs, torch's import takes a minute


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "home").mkdir()
    made = Tree(folder / "tree", folder / "home")
    made.environment("workstation")
    made.environment("polaris", MPICH, **conda(folder))
    made.environment("thetagpu", SITE_MODULES="0")
    made.environment("slurm")
    return made


CONDA = """#%Module
set-function conda {{
    [[ $* == "activate base" ]] || return
    export CONDA_PREFIX={folder}/conda/base
    PATH=$CONDA_PREFIX/bin:$PATH
}}
"""


def conda(folder: Path) -> dict[str, str]:
    """A conda that `module load conda` brings, where environment-modules is here."""
    if not Path("/etc/profile.d/modules.sh").exists():
        return {"SITE_MODULES": "0"}
    write_script(folder / "modulefiles/conda", CONDA.format(folder=folder))
    python = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    write_script(folder / "conda/base/bin/python3", python)
    return {"MODULEPATH": str(folder / "modulefiles")}


@pytest.fixture(scope="module")
def polaris(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("polaris")
    with Cluster(folder, [*X3, "polaris-login-01"], ".hsn.cm.polaris.alcf.anl.gov") as cluster:
        (folder / "nodes").write_text("".join(f"{name}\n" * 2 for name in X3))
        (folder / "bin").mkdir()
        (folder / "bin/mpiexec").symlink_to(ROOT / "tests/launch/stand_ins/pals.sh")
        yield cluster


def train(
    tree: Tree, enter: list[str], *extra: str, preflight: str = "0", **env: str
) -> list[float]:
    """Losses of a run of four ranks, started on the host that `enter` leads to."""
    command, full = tree.command("--", *TINY, *extra, **env)
    before = set((tree.root / "outputs").glob("*"))
    done = subprocess.run(
        [*enter, *command],
        env=full | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PREFLIGHT": preflight} | SLOW,
        cwd=tree.root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    (run,) = set((tree.root / "outputs").glob("*")) - before
    return losses_of(run)


@pytest.fixture(scope="module")
def alone(tree: Tree) -> list[float]:
    """The run that all others are compared with: four ranks on this host."""
    losses = train(tree, [], NGPUS="4", MACHINE="workstation")
    assert len(losses) == 3
    return losses


def same(losses: list[float], others: list[float]) -> None:
    assert losses == pytest.approx(others, abs=1e-6)


def submitted(tree: Tree, enter: list[str], *words: str, **env: str) -> Path:
    """./ALCF/submit.sh on the host that `enter` leads to; returns the job's folder."""
    _, full = tree.command(**env)
    done = subprocess.run(
        [*enter, str(tree.root / "ALCF/submit.sh"), *words],
        env=full | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        cwd=tree.root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(done.stdout.splitlines()[-1].split(": ")[1])


NIDS = ["nid000001", "nid000002"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if reason := why_not(*PROGRAMS):
        pytest.skip(reason)
    with Cluster(tmp_path_factory.mktemp("slurm"), NIDS) as cluster, Slurm(cluster) as running:
        yield running


@dataclass(frozen=True)
class Chain:
    """Three jobs of one rank, whose trainer ends as `plan` says; the second is held."""

    folder: Path
    jobs: list[str]
    plan: Path
    begin: float


@pytest.fixture(scope="module")
def chain(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The first job has a minute, and spends it while the other launchers are tested."""
    folder = tmp_path_factory.mktemp("chain")
    (folder / "home").mkdir()
    tree = Tree(folder / "tree", folder / "home")
    tree.environment("slurm")
    tree.trainer(PLANNED)
    plan = folder / "plan"
    plan.write_text("wait wait 0 0 0")
    begin = time.time()
    env = {"NGPU_PER_HOST": "1", "WANDB_NOTES": str(plan), **slurm.env}
    words = "-n 1 -t 1m --chain 3".split()
    job = submitted(tree, slurm.cluster.enter(NIDS[0]), *words, **env)
    jobs = (job / "jobs.txt").read_text().split()
    slurm.ask("scontrol", "hold", jobs[1])
    return Chain(job, jobs, plan, begin)


def test_a_chain_is_submitted(slurm: Slurm, chain: Chain) -> None:
    """Here, before all others, so that nobody waits for its first minute."""
    assert len(chain.jobs) == 3
    assert "afterany" in slurm.ask("scontrol", "show", "job", chain.jobs[1])


def test_hydra_over_two_hosts(tree: Tree, polaris: Cluster, alone: list[float]) -> None:
    env = {"HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": polaris.ssh, "MACHINE": "workstation"}
    env |= {"HOSTFILE": str(polaris.folder / "nodes")}
    same(train(tree, polaris.enter(X3[0]), **env), alone)


def losses_of(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["lm_loss"] for line in lines]


def test_pbs_and_pals_from_a_login_node(tree: Tree, polaris: Cluster, alone: list[float]) -> None:
    """submit.sh on Polaris's login node; the job finds its hosts, modules and network by itself."""
    state = polaris.folder / "pbs"
    state.mkdir()
    site = {"hosts": X3, "enter": polaris.enter(X3[0]), "queues": {"debug": [2, 60]}}
    here = {"HYDRA": MPIEXEC, "SSH": polaris.ssh, **conda(tree.root.parent), **traced()}
    (state / "site.json").write_text(json.dumps(site | {"env": here}))
    stand_in = ROOT / "tests/launch/stand_ins/qsub.py"
    for name, what in (("qsub", "pbs"), ("qstat", "qstat")):
        text = f'#!/bin/sh\nexec {sys.executable} {stand_in} {state} {what} "$@"\n'
        write_script(polaris.folder / f"bin/{name}", text)
    env = {"PATH": f"{polaris.folder}/bin:{Path(sys.executable).parent}:/usr/bin:/bin"}
    env |= {"NGPU_PER_HOST": "2", **SLOW, **conda(tree.root.parent)}
    words = "-q debug -n 2 -t 0:30:00 -A genes --".split()
    job = submitted(tree, polaris.enter("polaris-login-01"), *words, *TINY, **env)
    said = wait_for_job(job, 1)
    assert "job ends with exit code 0" in said
    (run,) = runs_of(job)
    same(losses_of(run), alone)


def test_conda_comes_with_a_module(tree: Tree) -> None:
    """The modules of environment-modules, in a bash that is no login shell."""
    env = conda(tree.root.parent)
    if "MODULEPATH" not in env:
        pytest.skip("environment-modules is not here")
    script = 'longseq_setup >&2; echo "$LONGSEQ_BASE_PYTHON ${LONGSEQ_VENV##*/}"'
    found = tree.bash(script, MACHINE="polaris", DS_ACCELERATOR="cpu", **env).stdout.split()
    assert found[0] == f"{tree.root.parent}/conda/base/bin/python3"
    assert re.fullmatch(r"conda-base-\d+", found[1])


def test_open_mpi_over_two_hosts(tree: Tree, alone: list[float], tmp_path: Path) -> None:
    """Recognised as ThetaGPU, whose hosts give a rank nothing but what -x names."""
    if reason := why_not("mpirun.openmpi"):
        pytest.skip(reason)
    (tmp_path / "bin").mkdir()
    os.symlink(shutil.which("mpirun.openmpi") or "", tmp_path / "bin/mpirun")
    names = ["thetagpu01", "thetagpu02"]
    (tmp_path / "nodes").write_text("thetagpu01\nthetagpu02\n")
    with Cluster(tmp_path / "hosts", names) as cluster:
        env = {"OMPI_MCA_plm_rsh_agent": cluster.ssh, "COBALT_JOBID": "78"}
        env |= {"COBALT_NODEFILE": str(tmp_path / "nodes"), "NGPU_PER_HOST": "2"}
        env |= {"SITE_MODULES": "0"}
        path = f"{tmp_path}/bin:{Path(sys.executable).parent}:/usr/bin:/bin"
        enter = cluster.enter(names[0])
        same(train(tree, enter, preflight="1", PATH=path, **env), alone)


def test_slurm_over_two_hosts(tree: Tree, slurm: Slurm, alone: list[float]) -> None:
    """sbatch on what Slurm makes a login node, srun in the job."""
    login = slurm.cluster.enter(NIDS[0])
    env = {"NGPU_PER_HOST": "2", "PREFLIGHT": "0", **slurm.env}
    job = submitted(tree, login, "-n", "2", "-t", "20m", "--", *TINY, **env)
    said = wait_for_job(job, 1)
    assert "job ends with exit code 0" in said
    (run,) = runs_of(job)
    same(losses_of(run), alone)
    assert (run / "hosts.txt").read_text().split() == NIDS
    # Its watch over the first host (guard.sh) was a step beside the ranks', and ended with the job
    assert not re.search("Unable|unrecognized|invalid", (job / "guard.txt").read_text())


def test_a_shell_by_ssh_finds_its_job(tree: Tree, slurm: Slurm) -> None:
    """On the second node of a job, without a variable of Slurm's: srun reaches both nodes."""
    words = "--parsable --nodes=2 --exclusive --wrap".split()
    job = slurm.ask("sbatch", *words, "sleep 600").strip()
    wait_until(lambda: slurm.ask("squeue", "-h", "-j", job, "-t", "R").strip(), "no job")
    env = {"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22", "DS_ACCELERATOR": "cpu", **slurm.env}
    env |= SLOW
    _, full = tree.command(**env)
    doctor = [*slurm.cluster.enter(NIDS[1]), "/bin/bash", str(tree.root / "ALCF/doctor.sh")]
    try:
        done = subprocess.run([*doctor, "--json"], env=full, capture_output=True, text=True)
    finally:
        slurm.ask("scancel", job)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"in a node of your job {job}: its nodes are used" in done.stderr
    assert list(json.loads(done.stdout)["hosts"]) == NIDS


def test_a_signal_stops_a_training_under_srun(tree: Tree, slurm: Slurm) -> None:
    """All ranks save at the same step, and 75 comes back although srun takes it for a failure."""
    env = {"NGPU_PER_HOST": "1", "PREFLIGHT": "0", **slurm.env}
    words = ["-n", "2", "-t", "20m", "--", *TINY, "--train-iters", "1000000"]
    job = submitted(tree, slurm.cluster.enter(NIDS[0]), *words, **env)
    wait_until((job / "runs.txt").exists, "the job has not started")
    (run,) = runs_of(job)
    metrics = run / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and metrics.read_text(), "no iteration", 100)
    slurm.ask("scancel", "--signal=USR1", "--batch", (job / "jobs.txt").read_text().strip())
    assert "job ends with exit code 75" in wait_for_job(job, 1)
    assert (run / "checkpoints/latest").exists()


def test_a_chain_is_told_and_started_again(slurm: Slurm, chain: Chain) -> None:
    """Three jobs: told before its end, started again by the scheduler, done; the last does nothing.

    Slurm tells the first one half a minute before the end or so.
    """
    wait_for_job(chain.folder, 1)
    second = chain.jobs[1]
    slurm.ask("scontrol", "release", second)
    wait_until(lambda: len(seen(chain.plan)) == 2, "the second job has not started")
    slurm.ask("scontrol", "requeue", second)
    wait_until(lambda: "BeginTime" in slurm.ask("squeue", "-h", "-j", second), "requeued")
    slurm.ask("scontrol", "update", f"jobid={second}", "starttime=now")
    kept = chain.folder / "output.txt"  # who is put back in the queue may say that it ends, or not
    done = "nothing to do: training is done"
    wait_until(lambda: done in kept.read_text(), "the last job has not done nothing")
    first, again, last = (load for load, _, _ in seen(chain.plan))
    runs = [str(run / "checkpoints") for run in runs_of(chain.folder)]
    assert [first, again] == [None, runs[0]]
    assert last in runs[1:]
    end = time.time() + 100
    assert all(when and chain.begin < float(when) < end for _, when, _ in seen(chain.plan))


def test_a_chain_leaves_a_bad_host_out(tree: Tree, slurm: Slurm, tmp_path: Path) -> None:
    """Slurm itself is told, as it chooses the next job's hosts."""
    (tmp_path / "plan").write_text("host 0")
    tree.trainer(PLANNED)
    env = {"NGPU_PER_HOST": "1", "WANDB_NOTES": str(tmp_path / "plan"), **slurm.env}
    login = slurm.cluster.enter(NIDS[0])
    job = submitted(tree, login, "-n", "1", "-t", "5m", "--chain", "2", **env)
    wait_for_job(job, 2)
    assert (job / "bad-hosts.txt").read_text() == f"{NIDS[0]} this host has stopped\n"
    first, then = runs_of(job)
    assert (first / "hosts.txt").read_text().split() == NIDS[:1]
    assert (then / "hosts.txt").read_text().split() == NIDS[1:]


# ---------------------------------------------------------------- a rank that is killed


def test_a_killed_rank_is_named_under_srun(tree: Tree, slurm: Slurm) -> None:
    tree.trainer(KILLED)
    env = {"NGPU_PER_HOST": "1", "PREFLIGHT": "0", **slurm.env}
    job = submitted(tree, slurm.cluster.enter(NIDS[0]), "-n", "2", "-t", "20m", **env)
    said = wait_for_job(job, 1)
    says_who_was_killed(said, NIDS[1])
    assert "job ends with exit code 137" in said
