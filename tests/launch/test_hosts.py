"""Which hosts there are, from whom, how many ranks go to each; all node files are hostile."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from longseq.run.safety.abort import report
from tests.launch.shell import Result

Bash = Callable[..., Result]
HOSTS = """longseq_default_facts
LONGSEQ_HOSTNAME=here LONGSEQ_NODE=compute LONGSEQ_MACHINE=workstation
longseq_find_hosts; echo "${LONGSEQ_HOSTS[*]}" """
RANKS = (
    HOSTS
    + """
LONGSEQ_DEVICE=cuda LONGSEQ_DEVICES=4; longseq_count_ranks
echo "$LONGSEQ_RANKS $LONGSEQ_RANKS_PER_HOST ${LONGSEQ_HOSTS[*]} / ${LONGSEQ_SPARES[*]-}" """
)


def hosts(bash: Bash, folder: Path, text: str, name: str = "PBS_NODEFILE", **env: str) -> Result:
    path = folder / "nodes"
    path.write_text(text)
    return bash(HOSTS, **{name: str(path)}, **env)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a\nb\n", "a b"),
        ("a\na\nb\nb\na\n", "a b"),  # PBS repeats a host for every slot
        ("a\n\n   \nb", "a b"),
        ("# the good ones\na # rack 1\n\tb\r\n", "a b"),
        ("a slots=4\nb slots=4\n", "a b"),
        ("a slots=4 max_slots=8\n", "a"),
        ("a slots=0\nb slots=2\n", "b"),
        ("a slots=0\nb\n", "b"),
        ("a slots=2\nb slots=02\n", "a b"),
        ("\ufeffa\nb\n", "a b"),  # Windows editors begin with it
        ("\ufeff# the good ones\na\n", "a"),
        (
            "x3004c0s13b0n0.hsn.cm.polaris.alcf.anl.gov\n",
            "x3004c0s13b0n0.hsn.cm.polaris.alcf.anl.gov",
        ),
    ],
)
@pytest.mark.parametrize("name", ["PBS_NODEFILE", "COBALT_NODEFILE", "HOSTFILE"])
def test_node_files(bash: Bash, tmp_path: Path, text: str, found: str, name: str) -> None:
    assert hosts(bash, tmp_path, text, name).stdout.strip() == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no host"),
        ("\n \n# nothing\n", "names no host"),
        ("a slots=0\n", "names no host"),
        ("a;touch${IFS}PWN\n", "line 1"),
        ("a\n$(touch PWN)\n", "line 2"),
        ("a\n`touch PWN`\n", "line 2"),
        ("-f\n", "line 1"),
        ("--hostfile=/etc/passwd\n", "line 1"),
        ("a b\n", "line 1"),
        ("a slots=-1\n", "line 1"),
        ("a slots=99999999999999999999\n", "line 1"),
        ("a slots=x\n", "line 1"),
        ("a,b\n", "line 1"),
        ("a\x1b[31m\n", "line 1"),
        ("ä\n", "line 1"),
        ("a" * 300 + "\n", "line 1"),
        ("a slots=2\nb slots=4\n", "slots=4"),
        ("a slots=2\nb\n", "b has no slots, a host before it 2"),
        ("a\nb slots=2\n", "b has slots=2, a host before it none"),
        ("alpha\0beta\n", "NUL"),
        ("a\nb\0", "NUL"),
        ("a\n\ufeffb\n", "line 2"),
    ],
)
def test_what_is_no_host_is_refused(bash: Bash, tmp_path: Path, text: str, said: str) -> None:
    result = hosts(bash, tmp_path, text)
    assert result.returncode == 2, result.stdout
    last = result.stderr.splitlines()[-1]
    assert said in last
    assert "PBS_NODEFILE" in last
    assert not list(Path.cwd().glob("PWN"))


@pytest.mark.parametrize("name", ["a b'c\"d$(touch PWN)", "a\nb", "*", "-n"])
def test_node_files_of_any_name(bash: Bash, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("a\nb\n")
    assert bash(HOSTS, HOSTFILE=str(path)).stdout.strip() == "a b"


@pytest.mark.parametrize("name", ["/no/such", "/etc", "a;touch${IFS}PWN"])
def test_node_files_that_are_none(bash: Bash, name: str) -> None:
    result = bash(HOSTS, COBALT_NODEFILE=name)
    assert result.returncode == 2
    assert f"COBALT_NODEFILE={name} cannot be read" in result.stderr


def test_whose_word_counts(bash: Bash, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine\n")
    env = {"SLURM_JOB_NODELIST": "theirs[1-2]"}
    assert bash(HOSTS).stdout.strip() == "localhost"
    assert bash(HOSTS, **env).stdout.strip() == "theirs1 theirs2"
    assert bash(HOSTS, **env, HOSTFILE=str(tmp_path / "mine")).stdout.strip() == "mine"


LISTS = {
    "nid000001": "nid000001",
    "nid[000001-000003,000007]": "nid000001 nid000002 nid000003 nid000007",
    "a,b[1-2],c-[08-11]": "a b1 b2 c-08 c-09 c-10 c-11",
    "r[1-2]n[01,3]": "r1n01 r1n3 r2n01 r2n3",
    "n[9-10]": "n9 n10",
}


@pytest.mark.parametrize(("text", "found"), LISTS.items())
def test_slurms_lists_of_nodes(bash: Bash, text: str, found: str) -> None:
    assert bash(HOSTS, SLURM_JOB_NODELIST=text).stdout.strip() == found


@pytest.mark.parametrize("text", LISTS)
def test_slurm_itself_reads_them_in_the_same_way(bash: Bash, tmp_path: Path, text: str) -> None:
    if not shutil.which("scontrol"):
        pytest.skip("scontrol is not here")
    (tmp_path / "slurm.conf").write_text("ClusterName=x\nSlurmctldHost=localhost\n")
    done = subprocess.run(
        ["scontrol", "show", "hostnames", text],
        env={"PATH": "/usr/bin", "SLURM_CONF": str(tmp_path / "slurm.conf")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert bash(HOSTS, SLURM_JOB_NODELIST=text).stdout.split() == done.stdout.split()


@pytest.mark.parametrize(
    "text",
    "n[1- n[] n[3-1] n[1-999999999] n[1-2][ a;touch${IFS}PWN n[a-b] , n[1--2] $(x)".split(),
)
def test_what_is_no_list_is_refused(bash: Bash, text: str) -> None:
    result = bash(HOSTS, SLURM_JOB_NODELIST=text)
    assert result.returncode == 2
    assert "SLURM_JOB_NODELIST=" in result.stderr


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({}, "12 4 a b c /"),
        ({"NHOSTS": "2"}, "8 4 a b /"),
        ({"NGPU_PER_HOST": "3"}, "9 3 a b c /"),
        ({"NGPUS": "6"}, "6 3 a b /"),
        ({"NGPUS": "4"}, "4 4 a /"),
        ({"NGPUS": "3"}, "3 3 a /"),
        ({"NGPUS": "9"}, "9 3 a b c /"),
        ({"NGPUS": "6", "NGPU_PER_HOST": "2"}, "6 2 a b c /"),
        ({"NGPUS": "6", "NHOSTS": "3"}, "6 2 a b c /"),
        ({"SPARE_NODES": "1"}, "8 4 a b / c"),
        ({"SPARE_NODES": "1", "NHOSTS": "1"}, "4 4 a / b c"),
        ({"SPARE_NODES": "0"}, "12 4 a b c /"),
    ],
)
def test_ranks_are_shared_out(bash: Bash, tmp_path: Path, env: dict[str, str], found: str) -> None:
    (tmp_path / "nodes").write_text("a\nb\nc\n")
    result = bash(RANKS, PBS_NODEFILE=str(tmp_path / "nodes"), **env)
    assert result.stdout.splitlines()[-1].strip() == found, result.stderr


@pytest.mark.parametrize(
    "env",
    [
        {"NHOSTS": "4"},
        {"NHOSTS": "0"},
        {"NHOSTS": "-1"},
        {"NHOSTS": "1e3"},
        {"NHOSTS": "99999999999999999999"},
        {"NGPUS": "7"},
        {"NGPUS": "a[$(touch PWN)]"},
        {"NGPU_PER_HOST": "5"},
        {"NGPUS": "6", "NGPU_PER_HOST": "4"},
        {"SPARE_NODES": "3"},
        {"SPARE_NODES": "1", "NHOSTS": "3"},
        {"SPARE_NODES": "-1"},
    ],
)
def test_what_cannot_be_shared_out_is_refused(
    bash: Bash, tmp_path: Path, env: dict[str, str]
) -> None:
    (tmp_path / "nodes").write_text("a\nb\nc\n")
    result = bash(RANKS, PBS_NODEFILE=str(tmp_path / "nodes"), **env)
    assert result.returncode == 2, result.stdout
    assert any(
        f"{name}={value}" in result.stderr or name in result.stderr for name, value in env.items()
    )
    assert not list(Path.cwd().glob("PWN"))


@pytest.mark.parametrize(
    ("hosts", "name", "rank", "found"),
    [
        ("n1 n2 n3", "n2.site.edu", 0, "n2"),
        ("n1.site.edu n2.site.edu", "n2", 0, "n2.site.edu"),
        ("gpu.rack1 gpu.rack2", "gpu.rack2", 0, "gpu.rack2"),  # not of the first such short name
        ("n1 n2", "localhost", 2, ""),  # not of its rank: srun may share them out in another order
        ("10.0.0.1 10.0.0.2 10.0.0.3", "10.0.0.2", 0, "10.0.0.2"),
        ("10.0.0.1 10.0.0.2 10.0.0.3", "n2", 3, "10.0.0.2"),  # as a rank calls its host itself
        ("fd00::1 ::ffff:10.0.0.2", "::ffff:10.0.0.2", 0, "::ffff:10.0.0.2"),
        ("10.0.0.1 10.0.0.2", "n7", 9, ""),
    ],
)
def test_which_host_is_meant_by_a_note(
    bash: Bash, tmp_path: Path, hosts: str, name: str, rank: int, found: str
) -> None:
    """An address does not end at its first dot: it would be that of all hosts of a network."""
    report(69, "it has stopped", {"LONGSEQ_LOG": str(tmp_path)}, rank, name)
    script = f"""LONGSEQ_HOSTS=({hosts}) LONGSEQ_RANKS_PER_HOST=2
        ! longseq_host_of "$1" || echo "$REPLY" """
    done = bash(script, str(tmp_path / f"failed-{rank}.txt"))
    assert (done.stdout.strip(), done.stderr) == (found, "")


def test_slots_say_how_many_ranks(bash: Bash, tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text("a slots=2\nb slots=2\n")
    env = {"HOSTFILE": str(tmp_path / "nodes")}
    assert bash(RANKS, **env).stdout.splitlines()[-1].strip() == "4 2 a b /"
    assert "1 a b" in bash(RANKS, **env, NGPU_PER_HOST="1").stdout
    assert "slots=2" in bash(RANKS, **env, NGPU_PER_HOST="3").stderr


def test_jobs_meet_on_different_ports(bash: Bash) -> None:
    """Derived from the job's id, so that two jobs on a node do not meet."""
    script = 'longseq_free_port; echo "$REPLY"'
    names = ("PBS_JOBID", "SLURM_JOB_ID", "COBALT_JOBID")
    ports = {bash(script, **{name: f"{77 + n}.x"}).stdout for n, name in enumerate(names)}
    assert len(ports) == 3
    assert bash(script, PBS_JOBID="123.polaris").stdout == bash(script, PBS_JOBID="123.x").stdout
    for odd in ("", "x", "0", "99999999999999999999[].pbs", "089"):
        assert 20000 <= int(bash(script, PBS_JOBID=odd).stdout) < 30000
