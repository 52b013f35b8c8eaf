"""What the screen shows of many ranks, what their files hold, and that a key is in none of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from longseq.errors import EXIT_STOPPED_EARLY
from longseq.run.safety.abort import report
from longseq.run.stdio import exit_code
from tests.launch.cluster import Cluster, why_not
from tests.launch.shell import ROOT, Result, Tree, clean_env, write_script

Bash = Callable[..., Result]

UNWRITTEN = "standard output cannot be written: it is closed or full"

# In place of longseq/training/loop.py, which needs torch and minutes
STUB = """
import os, subprocess, sys, time
from longseq.errors import UserError
rank = int(os.environ["RANK"])
def train(config, watch):
    print(f"words of rank {rank}", flush=True)
    subprocess.run(["/bin/sh", "-c", f"echo C of rank {rank} >&2"])
    exec(os.environ["WANDB_NOTES"])
    os._exit(0)
"""


@pytest.fixture
def stub(tree: Tree) -> Tree:
    tree.environment()
    (tree.root / "longseq/training/loop.py").write_text(STUB)
    return tree


def log(tree: Tree) -> Path:
    (run,) = (tree.root / "outputs").glob("*")
    return run / "log"


def test_the_screen_shows_rank_0_and_every_rank_has_a_file(stub: Tree) -> None:
    result = stub.launch(WANDB_NOTES="pass", NGPUS="4")
    assert result.returncode == 0, result.stderr
    assert "words of rank 0" in result.stdout
    assert "C of rank 0" in result.stderr
    for rank in range(4):
        text = (log(stub) / f"rank{rank}.out").read_text()
        assert f"words of rank {rank}\n" in text
        assert f"C of rank {rank}\n" in text
        if rank:
            assert f"of rank {rank}" not in result.stdout + result.stderr


TALKS = """#!/bin/bash
[[ $1 != --version ]] || { echo "HYDRA build details" && exit; }
echo first
until [[ -e FOLDER/gone ]]; do sleep 0.05; done
echo second
echo third >&2
touch FOLDER/lived
"""


@pytest.mark.parametrize("both", [False, True])
def test_a_reader_who_goes_away_ends_nothing(tree: Tree, tmp_path: Path, both: bool) -> None:
    """`train-gpt3.sh | head`: Open MPI's mpiexec would end of it, in a fault, with all ranks."""
    mpi = tmp_path / "mpi"
    write_script(mpi / "bin/mpiexec", TALKS.replace("FOLDER", str(tmp_path)))
    tree.environment(mpi=mpi)
    command, env = tree.command(PREFLIGHT="0")
    with (tmp_path / "errors").open("w+") as errors:
        run = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if both else errors,
            text=True,
        )
        assert run.stdout
        assert "first\n" in iter(run.stdout.readline, "")
        run.stdout.close()
        (tmp_path / "gone").touch()
        assert run.wait(60) == 0
    assert (tmp_path / "lived").exists()
    assert ("third\n" in (tmp_path / "errors").read_text()) == (not both)


def test_who_passes_words_on_is_no_child_of_the_script(bash: Bash) -> None:
    """bash, told by a signal while it waits for its launcher, may wait for any child it has."""
    script = """LONGSEQ_PYTHON=$1; longseq_keep_screen; sleep 0.5
        read -r children <"/proc/$$/task/$$/children" || :
        printf '%s\n' "children: $children" "and more" >&2; echo said"""
    done = bash(script, sys.executable)
    assert (done.stdout, done.stderr) == ("said\n", "children: \nand more\n")


FAIL = """
if rank == 2:
    raise ValueError("the cause")
while not os.path.exists(os.environ["LONGSEQ_LOG"] + "/failed-2.txt"):
    time.sleep(0.05)
raise RuntimeError("Connection closed by peer [10.0.0.2]")
"""


def test_the_first_failure_is_shown_and_not_its_consequences(stub: Tree) -> None:
    result = stub.launch(WANDB_NOTES=FAIL, NGPUS="4")
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    (said,) = (k for k, x in enumerate(lines) if "failed first" in x)
    assert f"rank 2 on {os.uname().nodename} failed first" in lines[said]
    assert lines[said].endswith(f"{log(stub)}/rank2.out")
    assert lines[said + 1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: the cause"
    assert "Connection closed" not in result.stdout + result.stderr
    assert "ValueError: the cause" in (log(stub) / "rank2.out").read_text()


def test_the_host_of_the_rank_that_failed_is_named(stub: Tree, tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    (tmp_path / "nodes").write_text("alpha slots=2\nbeta slots=2\n")
    with Cluster(tmp_path / "hosts", ["alpha", "beta"]) as cluster:
        env = {"HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": cluster.ssh, "PREFLIGHT": "0"}
        command, full = stub.command(WANDB_NOTES=FAIL, HOSTFILE=str(tmp_path / "nodes"), **env)
        result = subprocess.run(
            [*cluster.enter("alpha"), *command], env=full, capture_output=True, text=True
        )
    assert result.returncode == 1, result.stderr
    assert "rank 2 on beta failed first" in result.stderr
    assert "ValueError: the cause" in result.stderr
    assert "Connection closed" not in result.stderr


def test_a_consequence_that_was_noted_earlier_is_still_one(tree: Tree, tmp_path: Path) -> None:
    for rank, text in (("0", "RuntimeError: NCCL error"), ("3", "ValueError: no"), ("1", "x")):
        report(1, f"Traceback\n{text}", {"LONGSEQ_LOG": str(tmp_path), "RANK": rank})
    report(1, "Traceback\nValueError: later", {"LONGSEQ_LOG": str(tmp_path), "RANK": "3"})
    found = tree.bash(f"longseq_first_failure '{tmp_path}'").stdout
    assert found == f"{tmp_path}/failed-3.txt"
    assert (tmp_path / "failed-3.txt").read_text().endswith("ValueError: no\n")


def test_a_mistake_that_ranks_find_is_one_line(stub: Tree) -> None:
    result = stub.launch(WANDB_NOTES="raise UserError('--seed 7 is unlucky: give 8')")
    assert result.returncode == 2
    ours = [x for x in result.stderr.splitlines() if x.startswith("longseq: ")]
    assert ours == ["longseq: --seed 7 is unlucky: give 8"]
    assert "Traceback" not in result.stderr


def test_a_crash_in_c_leaves_a_trace_in_the_file(stub: Tree) -> None:
    crash = "import faulthandler\nif rank == 1:\n    faulthandler._sigsegv()\ntime.sleep(30)"
    result = stub.launch(WANDB_NOTES=crash)
    assert result.returncode not in (0, 2, 75)
    text = (log(stub) / "rank1.out").read_text()
    assert "Fatal Python error: Segmentation fault" in text
    assert "loop.py" in text


LOOK = """
import pathlib
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
        found = os.environ["WANDB_API_KEY"].encode() in path.read_bytes()
    except OSError:
        continue
    print("key", "SEEN" if found else "unseen", flush=True)
"""


def test_a_key_is_in_no_command_line_and_no_file(stub: Tree) -> None:
    key = "k3y" * 13
    result = stub.launch(WANDB_NOTES=LOOK, WANDB_API_KEY=key, HF_TOKEN=key)
    assert result.returncode == 0, result.stderr
    assert "key unseen" in result.stdout
    assert "SEEN" not in result.stdout
    assert key not in result.stdout + result.stderr
    for path in (stub.root / "outputs").rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("starter", ["openmpi", "srun", "pals"])
def test_stopping_early_is_no_failure_to_the_launcher(tmp_path: Path, starter: str) -> None:
    env = {"LONGSEQ_LOG": str(tmp_path), "LONGSEQ_STARTER": starter}
    assert exit_code(EXIT_STOPPED_EARLY, env | {"RANK": "1"}) == 0
    assert not (tmp_path / "exit-code").exists()
    assert exit_code(EXIT_STOPPED_EARLY, env | {"RANK": "0"}) == 0
    assert (tmp_path / "exit-code").read_text() == "75\n"
    assert exit_code(1, env) == 1
    (tmp_path / "exit-code").unlink()
    hydra = env | {"LONGSEQ_STARTER": "hydra", "RANK": "0"}  # it hands 75 on, if it is still there
    assert exit_code(EXIT_STOPPED_EARLY, hydra) == EXIT_STOPPED_EARLY
    assert (tmp_path / "exit-code").read_text() == "75\n"


def test_the_code_that_ranks_wrote_down_comes_back(tree: Tree) -> None:
    script = """declare -A LONGSEQ_VALUE=([LOAD]=)
        LONGSEQ_RUN=$HOME; mkdir "$HOME/log"; echo 75 >"$HOME/log/exit-code"
        longseq_finish 0; echo "$REPLY"; longseq_finish 1; echo "$REPLY"
        rm "$HOME/log/exit-code"; longseq_finish 9; echo "$REPLY" """
    more = """; cat "$HOME/log/exit-code"
        printf 75 >"$HOME/log/exit-code" # a line that was cut
        longseq_finish 0; echo "$REPLY"; echo 0 >"$HOME/log/exit-code"
        LONGSEQ_BESIDE_STATUS=69; longseq_finish 143; echo "$REPLY" """
    done = tree.bash(script + more)
    # The second of a launcher that was told itself, and has killed ranks that had said so; the
    # fourth for those who look at the run; the last of ranks that are done, but for one
    assert done.stdout.split() == ["75", "75", "9", "9", "75", "0"]


def test_ranks_without_a_launcher_may_say_how_it_ended(tree: Tree) -> None:
    """One that is killed leaves them for as long as a step and a save take."""
    script = """declare -A LONGSEQ_VALUE=([LOAD]=)
        LONGSEQ_RUN="$HOME/a run" LONGSEQ_TOLD=TERM; mkdir -p "$LONGSEQ_RUN/log"
        LONGSEQ_LOG=$LONGSEQ_RUN/log bash -c 'sleep 1; echo 75 >"$LONGSEQ_LOG/exit-code"' &
        longseq_finish 137; echo "$REPLY"
        rm "$LONGSEQ_RUN/log/exit-code"; longseq_finish 137; echo "$REPLY" """
    done = tree.bash(script)
    assert done.stdout.split() == ["75", "75"]
    said = "stopped by SIGTERM: the launcher ended, with status 137, before the ranks had"
    assert done.stderr == f"longseq: {said}\n"


def test_a_run_whose_folder_is_gone_has_met_no_full_disk(tree: Tree) -> None:
    script = """declare -A LONGSEQ_VALUE=([LOAD]=/before)
        LONGSEQ_RUN=$HOME/gone; longseq_finish 9; echo "$REPLY" """
    done = tree.bash(script)
    (line,) = done.stderr.splitlines()
    assert line.endswith("/gone is gone: it was removed or moved while the run used it")
    assert done.stdout.split() == ["1"]


def test_ranks_that_stopped_early_have_said_so_themselves(tree: Tree) -> None:
    """75 comes back from the launcher: Hydra's, and any where the disk had no room for the file."""
    script = """declare -A LONGSEQ_VALUE=([LOAD]=)
        LONGSEQ_RUN=$HOME; mkdir "$HOME/log"; longseq_finish 75; echo "$REPLY" """
    done = tree.bash(script)
    assert (done.stdout.split(), done.stderr) == (["75"], "")


@pytest.mark.parametrize(
    ("starter", "name", "sent"),
    [
        ("hydra", "HUP", "TERM TERM"),
        ("hydra", "INT", "INT INT"),
        ("openmpi", "TERM", "USR1 USR1"),  # a script and its job's both send one on
        ("openmpi", "INT", "USR1 HUP"),  # Open MPI kills in a second, and hears no INT
        ("srun", "INT", "TERM INT"),  # srun only prints a state
        ("srun", "USR1", "USR1 USR1"),
    ],
)
def test_what_a_launcher_is_sent(tree: Tree, starter: str, name: str, sent: str) -> None:
    script = f"""longseq_default_launcher; longseq_{starter}_facts
        longseq_signal_for {name} 1; printf "%s " "$REPLY"
        longseq_signal_for {name} 2; echo "$REPLY" """
    assert tree.bash(script).stdout.strip() == sent


@pytest.mark.parametrize(
    ("starter", "name", "said"),
    [
        ("openmpi", "TERM", "TERM"),
        ("openmpi", "INT", "INT"),
        ("openmpi", "USR1", ""),
        ("hydra", "HUP", "HUP"),
    ],
)
def test_ranks_can_tell_what_the_script_was_sent(
    tree: Tree, starter: str, name: str, said: str
) -> None:
    script = f"""LONGSEQ_RUN=$HOME; mkdir "$HOME/log"; longseq_default_launcher
        longseq_{starter}_facts
        run() {{ kill -{name} $$; exec sleep 20; }}
        longseq_supervise run || :
        cat "$HOME/log/"* """
    assert tree.bash(script + "2>/dev/null || :").stdout.strip() == said


def test_a_signal_that_a_script_was_begun_with_ignored_stays_ignored(tree: Tree) -> None:
    """As Ctrl-C's, of one that another script has started by `&`: else it ends while ranks run."""
    script = """export -f longseq_supervise
        (trap '' INT; exec bash -c 'longseq_supervise true; kill -INT $$; echo goes on')"""
    assert tree.bash(script).stdout.strip() == "goes on"


def test_the_wall_time_counts_from_the_scripts_start(tree: Tree) -> None:
    """Also the 30 seconds that checks and the preflight took."""
    script = """declare -gA LONGSEQ_VALUE=([WALLTIME]=1:00:00)
        longseq_end_time() { REPLY=$scheduler; }
        scheduler= before=$EPOCHSECONDS longseq_began=$((longseq_began - 30))
        longseq_know_end; echo $((LONGSEQ_END_TIME - before))
        scheduler=$((before + 60)); unset LONGSEQ_END_UPTIME
        longseq_know_end; echo $((LONGSEQ_END_TIME - before))
        echo "none: $LONGSEQ_END_UPTIME" """
    first, *rest = tree.bash(script).stdout.splitlines()
    assert abs(int(first) - 3570) <= 1
    assert rest == ["60", "none: "]


def test_a_clock_that_is_set_while_a_script_prepares(tree: Tree) -> None:
    """The ranks are handed their end by one that nobody sets, and a script that goes on is too."""
    script = """declare -gA LONGSEQ_VALUE=([WALLTIME]=1:00:00)
        ahead=0 LONGSEQ_HOSTNAME=$(uname -n)
        printf() { # the clock
            [[ ${3-} == '%(%s)T' ]] || { builtin printf "$@" && return; }
            builtin printf -v "$2" %d $((EPOCHSECONDS + ahead))
        }
        longseq_know_end; ahead=7200
        longseq_time_left; echo "$REPLY"
        python3 -c 'from longseq.run.safety.stopping import end_time; import os, time
print(round(end_time(os.environ) - time.time()))'
        unset longseq_end_known
        longseq_time_left; echo "$REPLY"; echo $((LONGSEQ_END_TIME - EPOCHSECONDS)) """
    done = tree.bash(script, PYTHONPATH=str(ROOT))
    numbers = [int(text) for text in done.stdout.split()]
    assert all(abs(n - m) <= 2 for n, m in zip(numbers, [3600] * 3 + [10800], strict=True)), numbers
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("ids", "program", "said", "left"),
    [
        ("SLURM_JOB_ID", "squeue", "", ""),  # `date -d ""` is the last midnight
        ("SLURM_JOB_ID", "squeue", " ", ""),
        ("SLURM_JOB_ID", "squeue", "N/A", ""),
        ("SLURM_JOB_ID", "squeue", "2001-02-03T04:05:06", "past"),
        ("SLURM_JOB_ID", "squeue", "2101-02-03T04:05:06", "4136846706"),
        ("SLURM_JOB_ID", "squeue", "4136846706", "4136846706"),
        ("SLURM_JOB_ID", "squeue", "981173106", "past"),
        # Torque's name for it, and neither of them
        ("PBS_JOBID", "qstat", " start_time = {began}\n Resource_List.walltime = 02:00:00", "5400"),
        ("PBS_JOBID", "qstat", " stime = {began}\n Resource_List.walltime = 02:00:00", "5400"),
        ("PBS_JOBID", "qstat", " stime = {began}\n Resource_List.walltime = 00:10:00", "past"),
        ("PBS_JOBID", "qstat", " qtime = {began}\n Resource_List.walltime = 02:00:00", ""),
        ("PBS_JOBID", "qstat", " stime = {began}\n", ""),
    ],
)
def test_no_end_is_made_of_nothing(
    bash: Bash, tmp_path: Path, ids: str, program: str, said: str, left: str
) -> None:
    """A run that takes a past time for its end stops after one iteration, in every job."""
    now = int(time.time())
    (tmp_path / "said").write_text(said.format(began=time.asctime(time.gmtime(now - 1800))))
    write_script(tmp_path / program, f"#!/bin/sh\ncat {tmp_path}/said\n")
    env = {ids: "7", "PATH": f"{tmp_path}:/usr/bin:/bin", "TZ": "UTC"}
    done = bash('longseq_end_time; printf %s "$REPLY"', **env)
    assert ("is past" in done.stderr) == (left == "past")
    wanted = {"5400": str(now + 5400), "past": ""}.get(left, left)
    assert (done.returncode, done.stdout) == (0, wanted), done.stderr


@pytest.mark.parametrize(
    ("counted", "says"),
    [
        ("1000 0", "(for one more file, however small: df -i): remove some"),
        ("1000 7", "(a full disk? a quota?): free some"),
        ("0 0", "(a full disk? a quota?): free some"),  # they are not counted
        ("", "(a full disk? a quota?): free some"),
    ],
)
def test_a_disk_that_takes_no_file_more_is_told_apart(bash: Bash, counted: str, says: str) -> None:
    script = (
        """stat() { printf '%s\\n' "$counted"; }; counted=$1; longseq_lacking /x; echo "$REPLY" """
    )
    assert bash(script, counted).stdout == f"{says}\n"


FULL, BROKEN = "ln -s /dev/full", "mkdir"  # in the place of the file that is tried: ENOSPC, EISDIR


@pytest.mark.parametrize(
    ("spoils", "code", "says"),
    [
        (FULL, 73, "there is no room in {run} (a full disk? a quota?): free some"),
        (BROKEN, 1, "nothing can be written in {run}: Is a directory"),
    ],
)
def test_a_disk_that_fails_is_not_called_full(
    bash: Bash, tmp_path: Path, spoils: str, code: int, says: str
) -> None:
    """Nobody waits for room on a disk that fails or may only be read: it is named (exit code 1)."""
    run = tmp_path / "a run"
    (run / "log").mkdir(parents=True)
    script = f"""LONGSEQ_RUN=$1 LONGSEQ_JOB=$1; declare -A LONGSEQ_VALUE=()
        rm() {{ [[ $* != *.room ]] || return 1; command rm "$@"; }} # the disk stays as it is
        {spoils} "$1/.room"
        longseq_finish 1; echo "$REPLY"
        ! longseq_lacked_room 1 || echo waits
        longseq_host_file() {{ return 1; }}; longseq_write_hosts || echo "$?" """
    done = bash(script, str(run))
    assert done.stdout.split() == [str(code), *["waits"][code == 1 :], str(code)]
    assert done.stderr == f"longseq: {says.format(run=run)}\n" * 2


@pytest.mark.parametrize(
    ("error", "room"),
    [
        ("head: write error: No space left on device", False),
        ("head: error writing 'standard output': Disk quota exceeded", False),
        ("head: write error: Input/output error", True),
        ("bash: line 1: /a: b/.room: Read-only file system", True),
        ("bash: line 1: /a: b/.room: Stale file handle", True),
        ("bash: line 1: /a: b/.room: Permission denied", True),
    ],
)
def test_what_is_said_of_a_disk(bash: Bash, error: str, room: bool) -> None:
    script = """said=$1; head() { echo "$said" >&2; return 1; }; LONGSEQ_JOB=$HOME
        longseq_write_fault "$HOME"; echo "$REPLY"
        longseq_has_room "$HOME" && echo room || echo none
        mkdir "$HOME/bad-hosts.txt"; longseq_leave bad-hosts.txt "a why" """
    done = bash(script, error)
    what = error.rsplit(": ", 1)[1]
    assert done.stdout.splitlines() == [what, "room" if room else "none"]
    assert f"bad-hosts.txt cannot be written ({what}), so the next job will not" in done.stderr


ENDS = """#!/bin/sh
[ "$SLURM_TIME_FORMAT" = %s ] && echo 4136846706
exit $FAILS
"""


@pytest.mark.parametrize(
    ("env", "end", "noted"),
    [
        ({"SLURM_JOB_END_TIME": "1700000000"}, "", "SLURM_JOB_END_TIME=1700000000"),
        ({"LONGSEQ_END_TIME": "1700000000"}, "", "LONGSEQ_END_TIME=1700000000"),
        ({"COBALT_ENDTIME": "1700000000"}, "", "COBALT_ENDTIME=1700000000"),
        # Slurm is asked: the job was extended since its variable was set
        ({"SLURM_JOB_END_TIME": "4000000000", "SLURM_JOB_ID": "7"}, "4136846706", ""),
        ({"SLURM_JOB_END_TIME": "1700000000", "SLURM_JOB_ID": "7"}, "4136846706", ""),
        ({"SLURM_JOB_END_TIME": "4000000000", "SLURM_JOB_ID": "7", "FAILS": "1"}, "4000000000", ""),
        ({"LONGSEQ_END_TIME": "3900000000", "SLURM_JOB_ID": "7"}, "3900000000", ""),
        (
            {"LONGSEQ_END_TIME": "1700000000", "SLURM_JOB_ID": "7"},
            "4136846706",
            "LONGSEQ_END_TIME=1700000000",
        ),
    ],
)
def test_an_end_that_is_past_is_not_used_and_named(
    bash: Bash, tmp_path: Path, env: dict[str, str], end: str, noted: str
) -> None:
    """As of a terminal that was opened in an older job."""
    write_script(tmp_path / "squeue", ENDS)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin", "FAILS": "0"}
    # What ranks are given, twice: an end that is known is not asked for again
    script = """declare -gA LONGSEQ_VALUE=([WALLTIME]=)
        longseq_know_end; longseq_time_left; env | grep ^LONGSEQ_END_TIME="""
    done = bash(script, **(path | env))
    assert done.stdout == f"LONGSEQ_END_TIME={end}\n"
    lines = [f"longseq: note: {noted}, this job's end, is past"] if noted else []
    assert [line.split(", so")[0] for line in done.stderr.splitlines()] == lines


ANSWERS = [
    "ALCF/train-gpt3.sh --help",
    "ALCF/train-gpt3.sh --list-models",
    "ALCF/train-gpt3.sh --list-variables",
    "ALCF/train-gpt3.sh",  # with DRY_RUN
    "ALCF/submit.sh --help",
    "ALCF/use.sh --help",
    "ALCF/status.sh --help",
    "install.sh --help",
    "install.sh --dry-run",
]


HEADED = """ALCF/train-gpt3.sh ALCF/submit.sh ALCF/use.sh ALCF/status.sh install.sh longseq.sh
    tests/run.sh tests/gpu/run.sh""".split()


@pytest.mark.parametrize("name", HEADED)
def test_help_is_at_most_a_hundred_letters_wide(name: str) -> None:
    """It is the comment that the script begins with."""
    lines = (ROOT / name).read_text().partition("\nset -")[0].splitlines()
    assert [line for line in lines if len(line.removeprefix("# ")) > 100] == []


@pytest.mark.parametrize("name", ["guard.sh", "job.sh"])
def test_what_people_do_not_call_says_what_does(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(ROOT / "ALCF" / name), "--help"],
        env=clean_env(tmp_path, {}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"longseq: {name} is ")
    assert done.stderr.endswith("./ALCF/submit.sh makes one\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", [False, True])
def test_what_only_answers_does_nothing_where_nobody_can_read(tree: Tree, closed: bool) -> None:
    """Neither a training nor an installation or a job begins, as all three once did."""
    before = tree.listing()
    for words in ANSWERS:
        line = f'exec "./$@" {">&-" if closed else ">/dev/full"}'
        done = subprocess.run(
            ["/bin/bash", "-c", line, "-", *words.split()],
            cwd=tree.root,
            env=clean_env(tree.home, {"DRY_RUN": "1"}),
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        told = done.stderr.splitlines()
        assert (done.returncode, told[-1]) == (73, f"longseq: {UNWRITTEN}"), (words, done.stderr)
        assert len(told) == 1 or words == ANSWERS[3]  # which says more beside
    assert tree.listing() == before


@pytest.mark.parametrize("to", [">&-", ">/dev/full"])
@pytest.mark.parametrize("program", ["submit.sh --dry-run", "train-gpt3.sh"])
def test_a_dry_run_of_a_submission_that_nobody_can_read(tree: Tree, program: str, to: str) -> None:
    """On a login node, where train-gpt3.sh answers with what submit.sh would do."""
    env = {"DRY_RUN": "1", "MACHINE": "pbs", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(
        ["/bin/bash", "-c", f"exec ./ALCF/{program} -- --swiglu {to}"],
        cwd=tree.root,
        env=clean_env(tree.home, env),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    told = done.stderr.splitlines()
    assert (done.returncode, told[-1]) == (73, f"longseq: {UNWRITTEN}"), done.stderr
    assert "write error" not in done.stderr
