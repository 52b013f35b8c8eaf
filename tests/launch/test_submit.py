"""submit.sh: what is asked of the scheduler, what is refused before, and what the job then runs."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longseq.run.safety.abort import report
from tests.faults.chain_events import fill
from tests.launch.cluster import small_disk, why_not
from tests.launch.planned import PLANNED, runs_of, seen, wait_for_job, wait_until
from tests.launch.shell import (
    ROOT,
    SOURCES,
    Result,
    Tree,
    clean_env,
    options,
    traced,
    write_script,
)
from tests.launch.test_machines import compare, dry_run

QUEUES = {"debug": [2, 60], "debug-scaling": [10, 60], "full-node": [24, 1440], "q": [8, 600]}
COBALT = """
longseq_profile_recognise() { return 1; }
longseq_profile_facts() { LONGSEQ_SCHEDULER=cobalt LONGSEQ_QUEUE=q LONGSEQ_FILESYSTEMS=home; }
longseq_profile_modules() { :; }
"""


SLURM = {"MACHINE": "slurm", "NGPU_PER_HOST": "4"}


class Site:
    """A tree on a login node whose qsub is the strict stand-in; jobs run on this host."""

    def __init__(self, folder: Path, kind: str = "pbs", **site: Any) -> None:
        self.folder, self.home = folder, folder / "home"
        self.state, self.plan = folder / "state", folder / "plan"
        for path in (self.home, self.state):
            path.mkdir(parents=True)
        self.tree = Tree(folder / "tree", self.home)
        self.cwd = self.tree.root  # where submit.sh is called
        (self.tree.root / "ALCF/machines/cobalt.sh").write_text(COBALT)
        self.machine = {"pbs": "pbs", "cobalt": "cobalt"}[kind]
        self.tree.environment(self.machine)
        self.tree.trainer(PLANNED)
        hosts = {"hosts": [os.uname().nodename], "queues": QUEUES, "env": traced()}
        (self.state / "site.json").write_text(json.dumps(hosts | site))
        program = ROOT / "tests/launch/stand_ins/qsub.py"
        for name, what in (("qsub", kind), ("qstat", "qstat")):
            text = f'#!/bin/sh\nexec {sys.executable} {program} {self.state} {what} "$@"\n'
            write_script(folder / f"bin/{name}", text)

    def submit(self, *words: str, **env: str) -> Result:
        return self.run(str(self.tree.root / "ALCF/submit.sh"), *words, **env)

    def run(self, *words: str, **env: str) -> Result:
        base = {"PATH": f"{self.folder}/bin:{Path(sys.executable).parent}:/usr/bin:/bin"}
        base |= {"MACHINE": self.machine, "DS_ACCELERATOR": "cpu", "NGPU_PER_HOST": "1"}
        base |= {"QUEUE": "q", "PROJECT": "genes", "FILESYSTEMS": "home", "SITE_MODULES": "0"}
        _, full = self.tree.command(**(base | {"WANDB_NOTES": str(self.plan)} | env))
        return subprocess.run(
            words,
            env=full,
            cwd=self.cwd,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def job(self, *words: str, **env: str) -> Path:
        """Submit and return the job's folder."""
        result = self.submit(*words, **env)
        assert result.returncode == 0, result.stdout + result.stderr
        return Path(result.stdout.split("settings and runs: ")[1].removesuffix("\n"))

    def jobs(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.state.glob("*.job"))]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def idle(tmp_path: Path) -> Site:
    """A site whose jobs do nothing."""
    return Site(tmp_path, enter=["/bin/true"])


@pytest.fixture(scope="module")
def never(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree that must not come to install anything."""
    folder = tmp_path_factory.mktemp("never")
    tree = Tree(folder / "tree", folder)
    write_script(tree.root / "install.sh", "#!/bin/sh\nexit 9\n")
    return tree.root


# ---------------------------------------------------------------- the request

REQUESTS = {
    "polaris": ("debug-scaling", "8"),
    "thetagpu": ("full-node", "4"),
    "sophia": ("by-node", "4"),
    "perlmutter": ("regular", "8"),
    "frontier": ("batch", "4"),
}


@pytest.mark.parametrize("profile", REQUESTS)
def test_the_request_is_the_one_that_was_reviewed(profile: str, tmp_path: Path) -> None:
    queue, nodes = REQUESTS[profile]
    words = ("-q", queue, "-n", nodes, "-t", "1:00:00", "-A", "myproject")
    compare(f"submit-{profile}.txt", dry_run(tmp_path, {"MACHINE": profile}, "submit.sh", *words))


def test_a_login_node_submits_what_would_have_been_launched(tmp_path: Path) -> None:
    """train-gpt3.sh where there is no allocation."""
    env = {"MACHINE": "polaris", "QUEUE": "debug-scaling", "NHOSTS": "8"}
    env |= {"WALLTIME": "1:00:00", "PROJECT": "myproject"}
    compare("submit-polaris.txt", dry_run(tmp_path, env))


def test_a_job_has_the_nodes_that_its_ranks_need(tmp_path: Path) -> None:
    """The line of `plan --suggest`: it says NGPUS, of which Polaris has four a node."""
    env = {"MACHINE": "polaris", "QUEUE": "debug-scaling", "PROJECT": "myproject"}
    for ranks, nodes in (("32", "8"), ("6", "2"), ("4", "1")):
        text = dry_run(tmp_path, env | {"NGPUS": ranks, "MPSIZE": "2", "SEQ_LEN": "4k"})
        assert f"{ranks} ranks on {nodes} host" in text
        assert f"-l select={nodes}" in text, ranks


def test_a_bench_is_queued_with_its_options_and_a_folder_that_goes_on(site: Site) -> None:
    script = """#!/bin/bash
printf '%s\\n' "bench $* ${LONGSEQ_JOB-no job} ${OUTPUT_DIR-no folder} dtype $DTYPE"
exit 75
"""
    write_script(site.tree.root / "ALCF/bench.sh", script)
    words = ("--chain", "2", "--bench", "--", "--lengths", "1k", "2k", "--", "--swiglu")
    job = site.job(*words, DTYPE="bf16")
    said = wait_for_job(job, 2)
    results = site.tree.root / "outputs/bench"
    line = f"bench --output {results} --lengths 1k 2k -- --swiglu no job no folder dtype bf16"
    assert said.splitlines().count(line) == 2
    assert said.count("longseq: job ends with exit code 75") == 2


def test_a_bench_knows_when_its_job_ends(tree: Tree, tmp_path: Path) -> None:
    """From the scheduler or WALLTIME, once, for itself and for its cases."""
    write_script(tree.root / "longseq.sh", '#!/bin/bash\necho "$LONGSEQ_END_TIME $*"\n')
    ends = int(time.time()) + 1800
    write_script(tmp_path / "bin/squeue", f"#!/bin/bash\n[[ $* != *9*%e* ]] || date -d @{ends}\n")
    path = f"{tmp_path}/bin:{os.environ['PATH']}"

    def bench(**env: str) -> tuple[str, str]:
        _, full = tree.command(PATH=path, DS_ACCELERATOR="cpu", **env)  # no Slurm is asked for GPUs
        words = [str(tree.root / "ALCF/bench.sh"), "--steps", "1"]
        done = subprocess.run(words, env=full, capture_output=True, text=True, check=False)
        return done.stdout, done.stderr

    assert bench(SLURM_JOB_ID="9") == (f"{ends} bench --steps 1\n", "")
    began = int(time.time())
    said, wrong = bench(WALLTIME="10m")
    end, *words = said.split()
    assert words == ["bench", "--steps", "1"], wrong
    assert began - 1 <= int(end) - 600 <= time.time()  # bash reads a coarser clock
    assert bench(WALLTIME="ten")[1] == (
        "longseq: WALLTIME=ten: give a time such as 1:30:00, 90m or 6h\n"
    )
    assert "did you mean SEQ_LEN?" in bench(SEQLEN="1k")[1]


def test_a_bench_that_cannot_be_is_refused_before_the_queue(idle: Site) -> None:
    result = idle.submit("--bench", "--", "--lengths", "5q")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("longseq: --lengths 5q")
    result = idle.submit("--bench", "--", "--lengths", "8k", SEQ_LEN="8k")
    assert (result.returncode, result.stderr.splitlines()[-1]) == (
        2,
        "longseq: SEQ_LEN=8k: a bench sets it itself; unset it and give --lengths",
    )
    assert idle.jobs() == []


def test_the_old_positional_form(idle: Site) -> None:
    env = {"MACHINE": "polaris", "QUEUE": "", "PROJECT": "", "PYTHON": sys.executable}
    idle.tree.environment("polaris", PYTHON=sys.executable)
    for words in ("debug 2 0:30:00 genes", "-q debug -n 2 -t 0:30:00 -A genes", "-A genes"):
        more = {"QUEUE": "debug", "NHOSTS": "2", "WALLTIME": "30m"} if words == "-A genes" else {}
        idle.job(*words.split(), **env | more)
    asked = [[job[key] for key in ("queue", "nodes", "minutes", "project")] for job in idle.jobs()]
    assert asked == [["debug", 2, 30.0, "genes"]] * 3


@pytest.mark.parametrize(
    ("env", "words", "line"),
    [
        ({"MACHINE": "polaris"}, "-q preemptable -n 2", "-r y"),
        ({"MACHINE": "polaris"}, "-q debug -n 1", "-r n"),
        ({"MACHINE": "polaris", "SPARE_NODES": "1"}, "-q debug-scaling -n 2", "-l select=3"),
        ({"MACHINE": "polaris", "FILESYSTEMS": "home:grand"}, "-q debug", "filesystems=home:grand"),
        ({"MACHINE": "sophia", "NGPUS": "4"}, "-q by-gpu", "-l select=4"),
        ({"MACHINE": "thetagpu", "NGPUS": "1"}, "-q single-gpu", "-n 1"),
        ({"MACHINE": "perlmutter"}, "-q debug", "--time=00:30:00"),  # no more is to be had
        ({"MACHINE": "slurm"}, "-q gpu -n 2 -t 20m", "--partition gpu"),
        ({"MACHINE": "slurm"}, "-n 2 -t 2d", "--time=48:00:00"),
        (
            {"MACHINE": "slurm", "SUBMIT_ARGS": "--reservation='r 1' --mem=0"},
            "",
            "--reservation=r\\ 1 --mem=0",
        ),
        ({"MACHINE": "slurm", "SUBMIT_ARGS": "-J genes"}, "", "-J genes"),  # a name there
        ({"MACHINE": "slurm", "SBATCH_RESERVATION": "r1"}, "", "# obeyed: SBATCH_RESERVATION=r1"),
        (
            {"MACHINE": "slurm", "NGPU_PER_HOST": "4", "GPU_TYPE": "a100"},
            "",
            "--gpus-per-node=a100:4",
        ),
        ({"MACHINE": "pbs", "NGPU_PER_HOST": "2"}, "-n 4", "-l select=4:ngpus=2"),
        ({"MACHINE": "polaris", "SITE_LIMITS": "0"}, "-q prod -n 1 -t 100h", "walltime=100:00:00"),
    ],
)
def test_what_a_request_holds(tmp_path: Path, env: dict[str, str], words: str, line: str) -> None:
    text = dry_run(tmp_path, env, "submit.sh", "-A", "genes", *words.split())
    assert line in " ".join(text.replace("\\\n", " ").split())


@pytest.mark.parametrize(
    ("env", "words", "said"),
    [
        ({}, "-q debug -n 2", "without a project"),
        ({}, "-A p -q nowhere", "QUEUE=nowhere is not a queue of polaris: choose one of debug "),
        ({}, "-A p -q prod -n 8", "queue prod takes no job of 8 nodes: 10-24 nodes"),
        ({}, "-A p -q prod -n 12 -t 4h", "at most 3:00:00"),
        ({}, "-A p -q debug -n 2 -t 1:00:01", "at most 1:00:00"),
        ({}, "-A p -q debug -n 3", "1-2 nodes"),
        ({}, "-A p -q debug -n 0", "NHOSTS=0"),
        ({}, "-A p -q debug -n -1", "NHOSTS=-1"),
        ({}, "-A p -q debug -n 99999999999999999999", "NHOSTS=9999"),
        ({}, "-A p -q debug -t soon", "WALLTIME=soon"),
        ({}, "-A p -q debug -t 0:00:00", "WALLTIME=0:00:00"),
        ({}, "-A p -q debug -t -5m", "WALLTIME=-5m"),
        ({}, "-A p;touch${IFS}PWN -q debug", "PROJECT=p;touch"),
        ({}, "-A --help -q debug", "PROJECT=--help"),
        ({}, "-A p -q $(touch${IFS}PWN)", "QUEUE="),
        ({"FILESYSTEMS": "a b"}, "-A p -q debug", "FILESYSTEMS=a b"),
        ({"SUBMIT_ARGS": "-l 'x"}, "-A p -q debug", "SUBMIT_ARGS: a quote is open"),
        ({"SUBMIT_ARGS": "-J 0-2"}, "-A p -q debug", "SUBMIT_ARGS=-J 0-2: jobs of an array would"),
        ({"SUBMIT_ARGS": "-t 0-2", "MACHINE": "pbs"}, "", "SUBMIT_ARGS=-t 0-2: jobs of an array"),
        ({"SUBMIT_ARGS": "--mem=0 -a0-2", **SLURM}, "", "SUBMIT_ARGS=--mem=0 -a0-2: jobs"),
        (
            {"SUBMIT_ARGS": "--array=0-2", **SLURM},
            "--chain 2",
            "at once: use --chain, or submit once for each",
        ),
        ({"SBATCH_ARRAY_INX": "0-2", **SLURM}, "", "SBATCH_ARRAY_INX=0-2: jobs of an"),
        ({"GPU_TYPE": "a100"}, "-A p -q debug", "GPU_TYPE=a100: only Slurm"),
        ({"MASTER_ADDR": "n1"}, "-A p -q debug", "MASTER_ADDR=n1: a job's hosts"),
        ({}, "-A p -q debug --chain 0", "--chain 0"),
        ({}, "-A p -q debug --chain 1e3", "--chain 1e3"),
        ({}, "-A p -q", "-q needs a value"),
        ({}, "debug 2 0:30:00", "give -q QUEUE"),
        ({}, "--fast", "unknown option --fast"),
        ({}, "SEQ_LEN=4 -A p", "variables go before"),
        ({"SEQ_LEN": "many"}, "-A p -q debug", "SEQ_LEN=many"),
        ({"SEQ_LEN": "1001"}, "-A p -q debug", "1001"),
        ({"DATA_PATH": "/no/such.fa"}, "-A p -q debug", "--data-path /no/such.fa (DATA_PATH): No"),
        ({"DATA_PATH": "/tmp"}, "-A p -q debug", "--data-path /tmp (DATA_PATH) is a folder"),
        ({}, "-A p -q debug -- --valid-records nope", "--valid-records nope: no record or file"),
        (
            {"MACHINE": "pbs", "NGPU_PER_HOST": "4"},
            "-q q -- --tokenizer-type GPT2BPETokenizer",
            "--tokenizer-type 'GPT2BPETokenizer' is unknown: use one of nucleotide",
        ),
        ({"LOAD": "/no/such"}, "-A p -q debug", "LOAD=/no/such"),
        ({"HOSTFILE": "/etc/hostname"}, "-A p -q debug", "HOSTFILE="),
        (
            {"PBS_NODEFILE": "/etc/hostname"},
            "-A p -q debug",
            "a job already: run ./ALCF/train-gpt3.sh",
        ),
        (
            {"MACHINE": "workstation"},
            "-A p",
            "no scheduler to submit to: run ./ALCF/train-gpt3.sh, or",
        ),
        (
            {"MACHINE": "workstation"},
            "-A p --bench",
            "submit to: run ./ALCF/bench.sh, or set MACHINE",
        ),
        (
            {"MACHINE": "workstation"},
            "-A p --use -- score outputs/RUN x.fa --output s",
            "no scheduler to submit to: run ./ALCF/use.sh, or set MACHINE",
        ),
        ({"MACHINE": "thetagpu"}, "-A p -t 4m", "takes jobs from 0:05:00 on"),
        ({"MACHINE": "sophia", "NGPUS": "8"}, "-A p -q by-gpu -t 25h", "to 8 GPUs"),
        ({}, "-A p -q debug -- --nonsense", "--nonsense"),
        ({}, "-A p -q debug --chain 3 -- --load /tmp", "--load behind --"),
        ({}, "-A p -q debug --chain 3 -- --load=/tmp", "--load behind --"),
        ({}, "-A p -q debug --chain 3 -- --swiglu --save /tmp", "--save behind --"),
        ({}, "-A p -q debug --chain 3 -- --run-dir /tmp", "--run-dir behind --"),
    ],
)
def test_what_the_site_would_refuse_is_refused_before(
    never: Path, tmp_path: Path, env: dict[str, str], words: str, said: str
) -> None:
    write_script(tmp_path / "bin/qsub", "#!/bin/sh\necho submitted\n")
    path = f"{tmp_path}/bin:{Path(sys.executable).parent}:/usr/bin:/bin"
    full = {"PATH": path, "HOME": str(tmp_path), "MACHINE": "polaris", "SITE_MODULES": "0"}
    full |= traced()
    result = subprocess.run(
        [str(never / "ALCF/submit.sh"), *words.split()],
        env=full | {"OUTPUT_DIR": str(tmp_path / "out")} | env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert said in result.stderr.splitlines()[-1]
    assert not (tmp_path / "PWN").exists()
    assert not (tmp_path / "out").exists()


SINFO = """#!/bin/sh
[ "$3" != '%P %l' ] || echo "$@" >>"$HOME/asked"
[ "$3" = '%P %l' ] && printf "$SAYS"
"""


def test_the_time_that_slurm_gives(bash: Callable[..., Result], tmp_path: Path) -> None:
    """Of the partition, or partitions, that a job goes to; "none" where it does not say."""
    cases = [
        ("cpu* 30:00\\nlong 2-00:00:00\\nany infinite\\n", "", "", "1800"),
        ("cpu* 4:00:00\\n", "", "--mem=0 -J part", "14400"),
        ("long 2-00:00:00\\n", "long", "", "172800"),
        ("cpu 30:00\\nlong 2-00:00:00\\n", "cpu,long", "", "172800"),
        ("cpu 30:00\\nany infinite\\n", "cpu,any", "", ""),
        ("cpu* UNLIMITED\\n", "", "", ""),
        ("cpu* n/a\\n", "", "", ""),
        ("cpu 30:00\\n", "", "", ""),  # none is the default one
        ("", "gone", "", ""),
        ("cpu* 30:00\\n", "", "--mem=0 -plong", ""),
        ("cpu* 30:00\\n", "", "--time=1:00:00", ""),
    ]
    script = """
longseq_find_machine
source "$LONGSEQ_ROOT/ALCF/queue.sh"
while read -r SAYS LONGSEQ_JOB_QUEUE LONGSEQ_VALUE[SUBMIT_ARGS]; do
    export SAYS=${SAYS//_/ }
    [[ $LONGSEQ_JOB_QUEUE != - ]] || LONGSEQ_JOB_QUEUE=
    longseq_ask_most
    echo "${LONGSEQ_MOST:-none}"
done
"""
    write_script(tmp_path / "bin/sinfo", SINFO)
    lines = [
        f"{says.replace(' ', '_') or '%b'} {queue or '-'} {args}" for says, queue, args, _ in cases
    ]
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    script = f"declare -A LONGSEQ_VALUE\n{script.strip()} <<'END'\n" + "\n".join(lines) + "\nEND\n"
    done = bash(script, MACHINE="slurm", PATH=path)
    assert done.stdout.split() == [most or "none" for *_, most in cases], done.stderr


@pytest.mark.parametrize(
    ("env", "words", "expected"),
    [
        ({}, "", "--time=00:30:00"),
        ({"SITE_LIMITS": "0"}, "-t 99h", "--time=99:00:00"),
        (
            {},
            "-t 99h",
            "WALLTIME=99:00:00 is more than the default partition gives a job, as sinfo",
        ),
        ({"SBATCH_PARTITION": "debug"}, "-t 99h", "is more than debug gives a job, as sinfo says"),
        ({"SAYS": ""}, "-t 99h", "--time=99:00:00"),
    ],
)
def test_slurm_is_asked_once_for_a_partitions_time(
    tmp_path: Path, env: dict[str, str], words: str, expected: str
) -> None:
    """A job that asks for more is taken, and waits for ever (PartitionTimeLimit)."""
    write_script(tmp_path / "bin/sinfo", SINFO)
    given = {"MACHINE": "slurm", "DS_ACCELERATOR": "cpu", "DRY_RUN": "1", "SAYS": "cpu* 30:00\\n"}
    done = subprocess.run(
        [str(ROOT / "ALCF/submit.sh"), "-n", "1", *words.split()],
        env=clean_env(tmp_path, given | env) | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected in (done.stderr if done.returncode else done.stdout), done.stderr
    partition = " --partition=debug" * ("SBATCH_PARTITION" in env)
    assert (tmp_path / "asked").read_text() == f"-h -o %P %l{partition}\n"


def test_without_a_scheduler_here_nothing_is_made(tmp_path: Path) -> None:
    result = subprocess.run(
        [str(ROOT / "ALCF/submit.sh"), "-A", "p", "-q", "debug"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "MACHINE": "polaris", **traced()}
        | {"OUTPUT_DIR": str(tmp_path / "out"), "SITE_MODULES": "0", "PYTHON": sys.executable}
        | {"MODEL_SIZE_KEY": "GPT125M"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, "there is no qsub here" in result.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


def test_the_schedulers_own_refusal_comes_back(site: Site) -> None:
    result = site.submit("-n", "2", QUEUE="unheard-of")
    assert result.returncode == 1
    assert "Unknown queue unheard-of" in result.stderr
    assert "qsub failed with status 1 at job 1 of 1" in result.stderr


QSUB = """#!/bin/bash
echo "$*" >>"$HOME/asked"
n=$((100 + $(wc -l <"$HOME/asked")))
"""


@pytest.mark.parametrize(
    ("says", "afters"),
    [
        ("echo $n", ["101", "102"]),
        ('echo "$n "', ["101", "102"]),
        (
            "echo $n.pbs-01; echo 'Remember: scratch is purged on Monday'",
            ["101.pbs-01", "102.pbs-01"],
        ),
        ("echo '2 jobs wait'; echo \"$n[].pbs-01\"", ["101[].pbs-01", "102[].pbs-01"]),
        ('echo "$n;cluster"', ["101", "102"]),
        ("", None),
        ("echo submitted to default_queue", None),
    ],
)
def test_a_chain_is_chained_or_not_submitted(
    idle: Site, says: str, afters: list[str] | None
) -> None:
    """Two jobs that do not wait for each other would be at work in one folder."""
    write_script(idle.folder / "bin/qsub", QSUB + says + "\n")
    result = idle.submit("--chain", "3")
    asked = (idle.home / "asked").read_text().splitlines()
    depend = [line.rpartition("depend=afterany:")[2].removesuffix(" job.sh") for line in asked[1:]]
    if afters is None:
        assert (result.returncode, len(asked), result.stdout) == (1, 1, "")
        assert "printed no job's number, so no more are submitted" in result.stderr
        assert says.removeprefix("echo ") in result.stderr
    else:
        assert (result.returncode, depend) == (0, afters), result.stderr


FILL = """
try:
    with open("{disk}/fill", "wb", buffering=0) as file:
        while os.path.isdir("{disk}/jobs"):
            file.write(bytes(4096))
except OSError:
    pass
"""


def test_a_chain_is_submitted_whole_where_nobody_can_read_its_numbers(idle: Site) -> None:
    """Standard output is full, or closed after its first line."""
    write_script(idle.folder / "bin/qsub", QSUB + "echo $n\n")
    command = f"{idle.tree.root}/ALCF/submit.sh --chain 4"
    for way in (f"{command} >/dev/full", f"{command} | head -n 1; exit ${{PIPESTATUS[0]}}"):
        (idle.home / "asked").unlink(missing_ok=True)
        done = idle.run("/bin/bash", "-c", way)
        assert done.returncode == 0
        assert len((idle.home / "asked").read_text().splitlines()) == 4
        assert "longseq: submitted 104 (4 of 4)\n" in done.stderr
        assert "write error" not in done.stderr
        (job,) = (idle.tree.root / "outputs/jobs").iterdir()
        assert (job / "jobs.txt").read_text().split() == ["101", "102", "103", "104"]
        shutil.rmtree(job)


def test_a_chain_is_submitted_whole_on_a_full_disk(idle: Site) -> None:
    if reason := why_not():
        pytest.skip(reason)
    disk = idle.folder / "disk"
    disk.mkdir()
    write_script(idle.folder / "bin/qsub", f"{QSUB}cat /dev/zero >{disk}/fill 2>/dev/null; echo $n")
    with small_disk(disk, "16m"):
        done = idle.submit("--chain", "3", OUTPUT_DIR=str(disk))
        (job,) = (disk / "jobs").iterdir()
        assert f"longseq: {job}/jobs.txt cannot be written" in done.stderr
        assert (done.returncode, "submitted 103 (3 of 3)" in done.stdout) == (0, True)
        assert "write error" not in done.stderr


def test_a_job_that_finds_no_room_leaves_nothing(idle: Site) -> None:
    """The disk fills up after the code is copied."""
    if reason := why_not():
        pytest.skip(reason)
    disk = idle.folder / "disk"
    disk.mkdir()
    program = idle.tree.root / "longseq/host/variables.py"
    head, main, tail = program.read_text().partition('if __name__ == "__main__":\n')
    program.write_text(head + FILL.format(disk=disk) + main + tail)
    with small_disk(disk, "16m"):
        done = idle.submit("--chain", "3", OUTPUT_DIR=str(disk))
        assert (done.returncode, done.stdout) == (73, ""), done.stderr
        (line,) = [line for line in done.stderr.splitlines() if "cannot be copied" in line]
        assert f"settings.sh cannot be copied to {disk}/jobs: free some room there" in line
        assert "write error" not in done.stderr
        assert list((disk / "jobs").iterdir()) == []
    assert idle.jobs() == []


# ---------------------------------------------------------------- the job and its chain


@pytest.mark.parametrize("kind", ["pbs", "cobalt"])
def test_a_chain_goes_on_until_training_is_done(tmp_path: Path, kind: str) -> None:
    """Stopped early; failed after some progress; done; nothing left to do."""
    site = Site(tmp_path, kind)
    site.plan.write_text("75 1 0 0")
    job = site.job("-t", "10m", "--chain", "4")
    said = wait_for_job(job, 4)
    assert "nothing to do: training is done" in said
    past = seen(site.plan)
    runs = [f"{run}/checkpoints" for run in runs_of(job)]
    assert [load for load, _, _ in past] == [None, runs[0], runs[1]]
    if kind == "pbs":
        assert all(600 - 60 < float(end) - Path(job).stat().st_ctime < 660 for _, end, _ in past)
    else:  # Cobalt holds what depends on a job that failed
        wait_until(lambda: len(list(site.state.glob("*.end"))) == 4, "all have ended")
        ends = [path.read_text() for path in sorted(site.state.glob("*.end"))]
        assert ends == ["0", "1", "0", "0"]


@pytest.mark.parametrize(
    ("plan", "starts", "reason"),
    [
        ("2 0", 1, "mistake in its settings"),
        ("x1 0", 1, "before its first iteration"),
        ("x137 x137 0", 2, "failed twice before its first iteration"),
        ("75 x1 0 0", 3, "training is done"),  # it has trained: once more
        ("x69 0 0", 2, "training is done"),  # bad hosts: the next job has others
        ("75 stop 0", 2, "there is a file STOP in "),
    ],
)
def test_a_chain_stops_at_once_on_what_would_repeat(
    site: Site, plan: str, starts: int, reason: str
) -> None:
    site.plan.write_text(plan)
    job = site.job("-t", "10m", "--chain", str(starts + 1))
    said = wait_for_job(job, starts + 1)
    assert reason in (job / "stopped.txt").read_text()
    assert len(seen(site.plan)) == starts
    assert said.count("nothing to do") == 1


AT_ONCE = 'sleep() { [[ $1 == 60 ]] || command sleep "$1"; }\n'


def test_a_job_waits_for_room_and_trains_again(site: Site) -> None:
    """Its own time is what a full disk takes, not the next jobs'."""
    with open(site.tree.root / "ALCF/chain.sh", "a") as file:
        file.write(AT_ONCE)
    site.plan.write_text("75 73 x73 0")
    job = site.job("-t", "10m", "--chain", "3")
    said = wait_for_job(job, 3)
    assert said.count("no room on a disk: this job looks once a minute") == 2
    assert said.count("nothing to do: training is done") == 1
    past, runs = seen(site.plan), [f"{run}/checkpoints" for run in runs_of(job)]
    assert [load for load, _, _ in past] == [None, runs[0], runs[1], runs[1]]
    ends = [int(end) for _, end, _ in past]
    assert max(ends[1:]) - min(ends[1:]) <= 1  # of one job, in whole seconds of two clocks


FILLED = """
declare -A LONGSEQ_VALUE=([WALLTIME]=)
LONGSEQ_JOB=$HOME looks=0
longseq_has_room() { [[ $1 != "$HOME" || $(wc -l <"$HOME/looks") -gt 3 ]]; }
sleep() { echo "$1" >>"$HOME/looks"; }
: >"$HOME/looks"
longseq_await_room && status=0 || status=$?
echo "$status $(wc -l <"$HOME/looks")"
"""


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ("", "0 4"),  # its end is not known
        ("600", "0 4"),
        ("90000", "0 4"),
        ("500", "1 3"),  # three minutes, and five that a run is worth
        ("350", "1 0"),
    ],
)
def test_it_waits_inside_its_own_time(bash: Callable[..., Result], left: str, said: str) -> None:
    given = f"longseq_time_left() {{ REPLY={left}; }}\n"
    done = bash(given + FILLED)
    assert done.stdout == f"{said}\n", done.stderr
    assert done.stderr.count("once a minute") == (said != "1 0")
    told = bash(f"{given}LONGSEQ_TOLD=TERM\n{FILLED}")
    assert (told.stdout, told.stderr) == ("1 0\n", "")


def test_who_asked_to_stop_has_no_room_awaited(bash: Callable[..., Result], tmp_path: Path) -> None:
    """RUN/STOP, when the checkpoint at the run's end finds no room."""
    (tmp_path / "run").mkdir()
    (tmp_path / "runs.txt").write_bytes(f"{tmp_path / 'run'}\0".encode())
    script = f"""
declare -A LONGSEQ_VALUE=([WALLTIME]=)
LONGSEQ_JOB={tmp_path}
longseq_has_room() {{ [[ -e $LONGSEQ_JOB/waited ]]; }}
sleep() {{ touch "$LONGSEQ_JOB/waited"; }}
longseq_await_room && echo trains again
rm -f "$LONGSEQ_JOB/waited"
longseq_judge_end 73 0
cat "$LONGSEQ_JOB/stopped.txt"
"""
    assert bash(script).stdout == "trains again\n"
    (tmp_path / "run/STOP").touch()
    assert bash(script).stdout == f"there is a file STOP in {tmp_path / 'run'}\n"


def test_it_waits_an_hour_at_most(bash: Callable[..., Result]) -> None:
    """All hosts of the job stand idle."""
    script = """
declare -A LONGSEQ_VALUE=([WALLTIME]=)
LONGSEQ_JOB=$HOME
longseq_has_room() { false; }
longseq_time_left() { REPLY=90000; }
sleep() { echo "$1" >>"$HOME/looks"; }
longseq_await_room || wc -l <"$HOME/looks"
"""
    assert bash(script).stdout.split() == ["60"]


def test_a_signal_ends_the_wait_for_room(bash: Callable[..., Result]) -> None:
    """Of a sleep that would be longer than the test may take."""
    script = """
declare -A LONGSEQ_VALUE=([WALLTIME]=)
LONGSEQ_JOB=$HOME
longseq_has_room() { false; }
sleep() { kill -TERM $$; exec sleep 1000; }
longseq_await_room || echo $?
"""
    assert bash(script).stdout == "75\n"


def test_a_failure_at_another_iteration_is_another_one(
    tmp_path: Path, bash: Callable[..., Result]
) -> None:
    """Both jobs went on from 1000, so the second was lost before it came to where the first was."""
    (tmp_path / "failed-at.txt").write_text("1500\n")
    for name, last in (("first", 1500), ("second", 1400)):
        (tmp_path / name).mkdir()
        lines = "".join(f'{{"iteration": {i}}}\n' for i in range(1001, last + 1))
        (tmp_path / name / "metrics.jsonl").write_text(lines + '{"iteration": 15')
    (tmp_path / "runs.txt").write_text(f"{tmp_path}/first\0{tmp_path}/second\0")
    judge = "LONGSEQ_JOB=$1 longseq_judge_end"
    assert "no further job" not in bash(f"{judge} 137 1", str(tmp_path)).stderr
    assert (tmp_path / "failed-at.txt").read_text() == "1500\n1400\n"
    twice = "it failed twice after iteration 1400 (exit code 139)"
    assert twice in bash(f"{judge} 139 1", str(tmp_path)).stderr


def test_a_failure_that_no_host_is_to_blame_for_is_a_whole_sentence(
    tmp_path: Path, bash: Callable[..., Result]
) -> None:
    """Exit code 69 for the network between them."""
    judge = "LONGSEQ_JOB=$1 longseq_judge_end 69 0"
    assert bash(judge, str(tmp_path)).stderr == ""
    said = bash(judge, str(tmp_path)).stderr
    assert "it failed twice before its first iteration (exit code 69)\n" in said
    (tmp_path / "stopped.txt").unlink()
    (tmp_path / "bad-hosts.txt").write_text("beta by the preflight\n")
    assert bash(judge, str(tmp_path)).stderr == ""  # another cause
    assert "first iteration on beta (exit code 69)" in bash(judge, str(tmp_path)).stderr


def test_a_folder_that_cannot_be_written_is_said(
    tmp_path: Path, bash: Callable[..., Result]
) -> None:
    """As on a full disk, for which the next job waits: here the folder is gone."""
    result = bash("LONGSEQ_JOB=$1 longseq_judge_end 0 5", str(tmp_path / "gone"))
    assert f"{tmp_path}/gone/stopped.txt cannot be written" in result.stderr
    full = "longseq_write_fault() { REPLY='No space left on device'; }\n"
    result = bash(f"{full}LONGSEQ_JOB=$1 longseq_judge_end 2 5", str(tmp_path))
    assert "no room in" in result.stderr
    assert "no further job" not in result.stderr


def test_a_full_disk_is_said_where_no_rank_could_note_it(
    tmp_path: Path, bash: Callable[..., Result]
) -> None:
    """The note that a rank began is empty then."""
    if reason := why_not():
        pytest.skip(reason)
    finish = "LONGSEQ_RUN=$1; declare -A LONGSEQ_VALUE=(); longseq_finish 1; echo $REPLY"
    with small_disk(tmp_path, "64k"):
        (tmp_path / "log").mkdir()
        (tmp_path / "log/failed-0.txt").touch()
        fill(tmp_path)
        done = bash(finish, str(tmp_path))
        assert done.stdout == "73\n"
        assert f"longseq: there is no room in {tmp_path} " in done.stderr
        hosts = "LONGSEQ_HOSTS=(a) LONGSEQ_HOST_SLOTS=0 LONGSEQ_RUN=$1"
        done = bash(f"{hosts}; longseq_prepare_launch || echo $?", str(tmp_path))
        assert done.stdout == "73\n"
        assert done.stderr.count("\n") == 1


FILLS_UP = """
mount -t tmpfs -o size=16k none "$1"
head -c 8192 /dev/zero >"$1/others"
{
    for i in {1..100}; do printf 'line %0100d\\n' "$i"; done
    until [[ $(wc -l <"$2") == 100 ]]; do sleep 0.05; done
    rm "$1/others"
    echo after
} | longseq_keep "$1/output.txt" >"$2"
cat "$1/output.txt"
"""


def test_output_goes_on_after_a_full_disk(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    (tmp_path / "disk").mkdir()
    (tmp_path / "screen").touch()
    script = f"set -euo pipefail\n{SOURCES}{FILLS_UP}"
    said = subprocess.run(
        [
            "unshare",
            "-m",
            "/bin/bash",
            "-c",
            script,
            "bash",
            tmp_path / "disk",
            tmp_path / "screen",
        ],
        env=clean_env(tmp_path, {"LONGSEQ_ROOT": str(ROOT)}),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert (tmp_path / "screen").read_text().splitlines()[-1] == "after"
    kept = sum(len(line) == 105 for line in said)
    assert said[-2:] == [
        f"longseq: {100 - kept} lines are missing here, as there was no room",
        "after",
    ]
    assert 0 < kept < 100


def test_the_last_line_is_kept_where_all_is_killed_with_the_job(tmp_path: Path) -> None:
    """As some schedulers do: here the job is the first process of a namespace."""
    if reason := why_not():
        pytest.skip(reason)
    (tmp_path / "settings.sh").write_text("task=train from=/ extra=( )\n")
    (tmp_path / "stopped.txt").write_text("x" * 50000)  # takes a while to copy
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "/bin/bash", str(ROOT / "ALCF/job.sh"), str(tmp_path)],
        env=clean_env(tmp_path, {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output.txt").read_text().endswith("job ends with exit code 0\n")
    assert done.stdout == (tmp_path / "output.txt").read_text()


@pytest.mark.parametrize(("wanted", "left_out"), [("1", "n1,n2"), ("1-2", "n1,n2"), ("2", "n2")])
def test_enough_hosts_are_left_for_the_jobs_after(
    tmp_path: Path, bash: Callable[..., Result], wanted: str, left_out: str
) -> None:
    """Slurm would let a job wait for ever whose hosts are all left out. n2 was at fault twice."""
    (tmp_path / "jobs.txt").write_text("7\n8\n")
    (tmp_path / "bad-hosts.txt").write_text("n2 that\nn1 this\nn2 that\n")
    write_script(tmp_path / "bin/squeue", f"#!/bin/sh\necho {wanted} debug\n")
    write_script(tmp_path / "bin/sinfo", "#!/bin/sh\nprintf 'n1\\nn2\\nn3\\n'\n")
    write_script(tmp_path / "bin/scontrol", f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    env = {
        "SLURM_JOB_ID": "7",
        "PATH": f"{tmp_path}/bin:{Path(sys.executable).parent}:/usr/bin:/bin",
    }
    bash("LONGSEQ_JOB=$1; longseq_exclude", str(tmp_path), **env)
    assert (tmp_path / "asked").read_text() == f"update jobid=8 excnodelist={left_out}\n"


def test_a_job_whose_numbers_found_no_room_ends_as_it_would(
    tmp_path: Path, bash: Callable[..., Result]
) -> None:
    (tmp_path / "bad-hosts.txt").write_text("n1 this\n")
    done = bash("LONGSEQ_JOB=$1; longseq_exclude", str(tmp_path), SLURM_JOB_ID="7")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("names", ["n1 n2 n3", "10.0.0.1 10.0.0.2 10.0.0.3"])
def test_a_host_at_fault_comes_last_in_the_next_job(
    tmp_path: Path, bash: Callable[..., Result], names: str
) -> None:
    """What the rank's note says in one job decides the order of hosts in the next."""
    bad, *good = names.split()
    (tmp_path / "nodes").write_text("\n".join([bad, *good]))
    (tmp_path / "log").mkdir()
    report(69, "rank 0 has stopped", {"LONGSEQ_LOG": str(tmp_path / "log")}, 0, "n1.site.edu")
    first = f"""declare -A LONGSEQ_VALUE=([LOAD]=); export LONGSEQ_JOB=$1
        LONGSEQ_HOSTS=({names}) LONGSEQ_RANKS_PER_HOST=1 LONGSEQ_RUN=$1
        longseq_finish 1; echo "$REPLY"; longseq_find_failed 69; echo "${{LONGSEQ_FAILED[@]}}" """
    assert bash(first, str(tmp_path)).stdout.split() == ["69", bad]
    assert (tmp_path / "bad-hosts.txt").read_text() == f"{bad} rank 0 has stopped\n"
    then = 'longseq_setup; echo "${LONGSEQ_HOSTS[*]} / ${LONGSEQ_SPARES[*]-}"'
    env = {"HOSTFILE": str(tmp_path / "nodes"), "DS_ACCELERATOR": "cpu", "MACHINE": "workstation"}
    env |= {"LONGSEQ_JOB": str(tmp_path)}
    spared = bash(then, SPARE_NODES="1", **env)
    assert spared.stdout.split() == [*good, "/", bad]
    assert f"{bad} is left out, as it was at fault" in spared.stderr
    needed = bash(then, **env)
    assert needed.stdout.split() == [*good, bad, "/"]
    assert f"{bad} was at fault in an earlier job of this chain, and is used again" in needed.stderr


FEWER = """longseq_setup; longseq_args
printf '%s ' "${#LONGSEQ_HOSTS[@]}" "$LONGSEQ_RANKS" "${LONGSEQ_ARGS[@]}" """


@pytest.mark.parametrize(
    ("hosts", "asked", "found"),
    [
        (4, {"NGPU_PER_HOST": "2", "GAS": "3"}, (4, 8, 48)),  # 2 a rank x 8 ranks x 3
        (3, {"NGPU_PER_HOST": "2"}, (3, 6, 48)),
        (2, {"NGPUS": "8"}, (2, 4, 48)),
        (4, {"NGPU_PER_HOST": "2", "SPARE_NODES": "1"}, (4, 8, 48)),  # the spare one is needed
    ],
)
def test_a_chains_batch_is_kept_on_other_nodes(
    tmp_path: Path,
    bash: Callable[..., Result],
    hosts: int,
    asked: dict[str, str],
    found: tuple[int, int, int],
) -> None:
    (tmp_path / "nodes").write_text("".join(f"n{k}\n" for k in range(hosts)))
    env = {"HOSTFILE": str(tmp_path / "nodes"), "DS_ACCELERATOR": "cpu", "MACHINE": "workstation"}
    env |= {"LONGSEQ_JOB": str(tmp_path), "NHOSTS": "4", "MPSIZE": "1"}
    env |= {} if "GAS" in asked else {"GLOBAL_BATCH": "48"}
    words = bash(FEWER, **env, **asked).stdout.split()
    assert (int(words[0]), int(words[1]), int(options(words)["--global-batch-size"])) == found


def test_a_batch_that_other_nodes_cannot_share_is_one_line(refusal: Callable[..., str]) -> None:
    line = refusal(NGPUS="3", MPSIZE="1", MICRO_BATCH="2", GLOBAL_BATCH="16")
    assert "GLOBAL_BATCH=16 cannot be shared out over 3 data-parallel" in line
    assert "a multiple of 6" in line
    both = refusal(NGPUS="2", MPSIZE="1", MICRO_BATCH="2", GLOBAL_BATCH="16", GAS="3")
    assert "= 12: leave GAS out" in both


def test_editing_the_tree_or_the_shell_changes_nothing(site: Site) -> None:
    """Settings and code are those of the moment it was submitted."""
    (site.state / "hold").touch()
    profile = {"SEQ_LEN": "64", "NCCL_DEBUG": "WARN"}
    site.plan.write_text("0")
    job = site.job("-t", "10m", "--", "--swiglu", **profile)
    table = site.tree.root / "ALCF/variables.txt"
    table.write_text(table.read_text().replace("| 1234 |", "| 4321 |"))
    (site.tree.root / "ALCF/models.sh").write_text("exit 9\n")
    (site.tree.root / "longseq/config/checks.py").write_text("raise SystemExit('edited')\n")
    site.tree.trainer("raise SystemExit('edited')\n")
    content = json.loads((site.state / "site.json").read_text())
    shell = {"SEQ_LEN": "32", "TRAIN_ITERS": "7", "NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": "9"}
    (site.state / "site.json").write_text(json.dumps(content | {"env": traced() | shell}))
    (site.state / "hold").unlink()
    said = wait_for_job(job, 1)
    assert "job ends with exit code 0" in said
    ((_, _, argv),) = seen(site.plan)
    value = dict(itertools.pairwise(argv))
    assert (value["--seq-length"], value["--seed"], argv[-1]) == ("64", "1234", "--swiglu")
    assert value["--train-iters"] == "300"
    (run,) = runs_of(job)
    assert "LONGSEQ_JOB" not in (run / "command.sh").read_text()  # another may repeat the run
    assert "GPT_SMALL (the default on a CPU; MODEL_SIZE_KEY chooses another)" in said


@pytest.mark.parametrize("name", ["a b'c\"d$(touch PWN)ü;&|<>*?~#", "a\nb"])
def test_a_job_in_a_folder_of_any_name(site: Site, name: str) -> None:
    site.plan.write_text("0")
    data = site.folder / f"{name}.fa"
    data.write_text((ROOT / "data/NC_001416.1.fa").read_text())
    output = site.folder / name
    job = site.job("-t", "10m", OUTPUT_DIR=str(output), DATA_PATH=f"../{name}.fa")
    assert job.parent == output / "jobs"
    wait_for_job(job, 1)
    ((_, _, argv),) = seen(site.plan)
    assert argv[argv.index("--data-path") + 1] == f"{site.tree.root}/../{name}.fa"
    assert not list(site.folder.rglob("PWN"))


def test_a_key_is_in_no_file_of_a_job(site: Site) -> None:
    """Schedulers save the environment that a job is given."""
    key = "k3y" * 13
    site.plan.write_text("0")
    result = site.submit(
        "-t", "10m", WANDB_API_KEY=key, HF_TOKEN=key, WANDB_BASE_URL=f"x://a:{key}@b"
    )
    assert "wandb login" in result.stderr
    assert key not in result.stdout + result.stderr
    wait_for_job(Path(result.stdout.split("settings and runs: ")[1].strip()), 1)
    for path in site.folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert key.encode() not in path.read_bytes(), path


def test_an_environment_that_changed_is_refused_in_the_job(site: Site) -> None:
    (site.state / "hold").touch()
    job = site.job("-t", "10m", "--chain", "2")
    next(site.tree.root.glob("venvs/pbs/*/installed-base.txt")).write_text("another\n")
    (site.state / "hold").unlink()
    said = wait_for_job(job, 2)
    assert "has changed since this job was submitted" in said
    assert "mistake in its settings" in (job / "stopped.txt").read_text()
