"""A shell by ssh in a node of one's own job: the job is found, by stand-ins for schedulers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.shell import Result, Tree, write_script

Bash = Callable[..., Result]
SHELL = """longseq_find_machine; longseq_find_hosts
echo "$LONGSEQ_NODE ${SLURM_JOB_ID-}${PBS_JOBID-} ${LONGSEQ_HOSTS[*]}" """
BY_SSH = {"SSH_CONNECTION": "10.0.0.1 5022 10.0.0.7 22"}

SQUEUE = """#!/bin/bash
[[ ! $* =~ --(nodelist|jobs)= || $* =~ --nodelist=here|--jobs=15 ]] ||
    { echo "Invalid node name" >&2; exit 1; }
while read -r id nodes; do
    [[ $* == *--jobs=* && $* != *"--jobs=$id"* ]] || echo "$id $nodes"
done <<'JOBS'
JOBS_GO_HERE
JOBS
"""
QSTAT = """#!/bin/bash
# As PBS breaks its lines
printf 'Job Id: %s\\n    Job_Name = STDIN\\n    exec_host = ' "$2"
printf 'x3001c0s1b0n0/0*64+x3001c0s1b1n0/0*64+\\n\\there/0*64+here/1*64\\n'
printf '    exec_vnode = (x3001c0s1b0n0:ncpus=64)+\\n\\t(other:ncpus=64)\\n'
"""


def stand_ins(folder: Path, slurm: str = "", pbs: str = "") -> dict[str, str]:
    """A PATH with the programs of a scheduler, and the name of this host."""
    write_script(folder / "uname", "#!/bin/sh\necho here.site.org\n")
    if slurm:
        write_script(folder / "squeue", SQUEUE.replace("JOBS_GO_HERE", slurm))
        write_script(folder / "sbatch", "#!/bin/sh\nexit 1\n")
        (folder / "slurm.conf").touch()
    if pbs:
        write_script(folder / "qselect", f"#!/bin/sh\nprintf '%s\\n' {pbs}\n")
        write_script(folder / "qstat", QSTAT)
        write_script(folder / "qsub", "#!/bin/sh\nexit 1\n")
    path = {"PATH": f"{folder}:/usr/bin:/bin", "SLURM_CONF": str(folder / "slurm.conf")}
    return BY_SSH | path | {"PBS_HOME": str(folder)}


def test_slurms_job_is_found_on_a_node_of_any_site(bash: Bash, tmp_path: Path) -> None:
    """Where sbatch is on the nodes too, so that without a job each would be a login node."""
    result = bash(SHELL, **stand_ins(tmp_path, slurm="12 n[1-2],here"))
    assert result.stdout == "compute 12 n1 n2 here\n"
    assert "in a node of your job 12: its nodes are used (n[1-2],here)" in result.stderr


def test_of_several_jobs_one_is_named(bash: Bash, tmp_path: Path) -> None:
    env = stand_ins(tmp_path, slurm="12 n1,here\n15 here")
    result = bash(SHELL, **env)
    assert result.returncode == 2
    assert (
        "2 jobs of yours run on here.site.org (12 15): say which with SLURM_JOB_ID="
        in result.stderr
    )
    assert bash(SHELL, **env, SLURM_JOB_ID="15").stdout == "compute 15 here\n"


@pytest.mark.parametrize("env", [{"HOSTFILE": "nodes"}, {"SSH_CONNECTION": ""}])
def test_a_file_of_hosts_wins_and_a_shell_at_the_machine_asks_nobody(
    bash: Bash, tmp_path: Path, env: dict[str, str]
) -> None:
    (tmp_path / "nodes").write_text("mine\n")
    env = {name: str(tmp_path / value) if value else "" for name, value in env.items()}
    result = bash(SHELL, **stand_ins(tmp_path, slurm="12 n1,here") | env)
    assert "12" not in result.stdout
    assert "job" not in result.stderr


def test_a_login_node_stays_one(bash: Bash, tmp_path: Path) -> None:
    env = stand_ins(tmp_path, slurm="12 n1,here")
    write_script(tmp_path / "uname", "#!/bin/sh\necho login1\n")
    assert bash(SHELL, **env).stdout == "login  localhost\n"


def test_no_job_on_a_compute_node_is_said(bash: Bash, tmp_path: Path) -> None:
    env = stand_ins(tmp_path, slurm="12 n1,here")
    write_script(tmp_path / "uname", "#!/bin/sh\necho nid000007\n")
    result = bash(SHELL, **env, NERSC_HOST="perlmutter")
    assert result.stdout == "compute  localhost\n"
    assert "no job of yours runs on nid000007" in result.stderr


def test_what_squeue_says_is_not_trusted(bash: Bash, tmp_path: Path) -> None:
    result = bash(SHELL, **stand_ins(tmp_path, slurm="12 n1;touch${IFS}PWN"))
    assert result.returncode == 2
    assert "cannot be read" in result.stderr


def test_pbs_has_a_file_of_hosts_on_the_jobs_first_node(bash: Bash, tmp_path: Path) -> None:
    env = stand_ins(tmp_path, pbs="7.pbs-01")
    result = bash(SHELL, **env)
    assert result.stdout == "compute 7.pbs-01 x3001c0s1b0n0 x3001c0s1b1n0 here\n"
    assert "your job 7.pbs-01" in result.stderr
    (tmp_path / "aux").mkdir()
    (tmp_path / "aux/7.pbs-01").write_text("here.hsn\nx9.hsn\n")
    assert bash(SHELL, **env).stdout == "compute 7.pbs-01 here.hsn x9.hsn\n"


def test_of_several_jobs_of_pbs_one_is_named(bash: Bash, tmp_path: Path) -> None:
    env = stand_ins(tmp_path, pbs="7.pbs-01 9.pbs-01")
    result = bash(SHELL, **env)
    assert result.returncode == 2
    assert "(7.pbs-01 9.pbs-01): say which with PBS_JOBID=" in result.stderr
    assert bash(SHELL, **env, PBS_JOBID="9.pbs-01").stdout.startswith("compute 9.pbs-01 x3001")


@pytest.mark.parametrize(
    ("kind", "program", "does"),
    [
        ("slurm", "squeue", "exit 1"),
        ("slurm", "squeue", "echo '12 n1,here'; exit 1"),
        ("pbs", "qselect", "exit 1"),
        ("pbs", "qstat", "exit 1"),
    ],
)
def test_no_answer_is_not_taken_for_no_job(
    tree: Tree, tmp_path: Path, kind: str, program: str, does: str
) -> None:
    """Where qsub is on the nodes too, a node of one's own job then looks like a login node."""
    env = stand_ins(tmp_path, **{kind: "12 n1,here" if kind == "slurm" else "7.pbs-01"})
    write_script(tmp_path / program, f"#!/bin/sh\n{does}\n")
    for name in ("sbatch", "qsub"):
        write_script(tmp_path / name, f"#!/bin/sh\necho asked >>{tmp_path}/asked\necho 117\n")
    if kind == "pbs":
        (tmp_path / "sbatch").unlink()
    done = tree.launch(**env)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "the scheduler does not say whether here.site.org is in a job of yours" in line
    assert not (tmp_path / "asked").exists()


def test_a_job_that_ended_meanwhile_is_none(bash: Bash, tmp_path: Path) -> None:
    env = stand_ins(tmp_path, pbs="7.pbs-01")
    write_script(tmp_path / "qselect", f"#!/bin/sh\n[ -e {tmp_path}/over ] || echo 7.pbs-01\n")
    write_script(tmp_path / "qstat", f"#!/bin/sh\ntouch {tmp_path}/over\nexit 35\n")
    assert bash(SHELL, **env).stdout == "login  localhost\n"


@pytest.mark.parametrize("more", [{}, {"HOSTFILE": "nodes"}])
def test_without_an_answer_a_known_node_is_not_used_alone(
    bash: Bash, tmp_path: Path, more: dict[str, str]
) -> None:
    env = stand_ins(tmp_path, slurm="12 n1,here") | {"NERSC_HOST": "perlmutter"}
    (tmp_path / "nodes").write_text("mine\n")
    write_script(tmp_path / "uname", "#!/bin/sh\necho nid000007\n")
    write_script(tmp_path / "squeue", "#!/bin/sh\nexit 1\n")
    done = bash(SHELL, **env, **{name: str(tmp_path / value) for name, value in more.items()})
    assert (done.returncode, done.stdout) == ((0, "compute  mine\n") if more else (2, ""))
