"""A signal before the ranks run or after: in the preflight, the doctor, the copy, the last look."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.launch.planned import wait_until
from tests.launch.shell import Tree, processes_with, write_script

# Runs what it is given, but where HANG stands in it: there it leaves a process and waits for it. Of
# the environment it makes a "copy", and spoils what SPOIL names in the run's folder.
LAUNCHER = """#!/bin/bash
[[ $1 != --version ]] || { echo HYDRA && exit; }
last=${*: -1}
if [[ $* == *longseq.host.broadcast* ]]; then
    mkdir -p -- "$last/bin" && ln -s "$PYTHON_HERE" "$last/bin/python"
    [[ -z $SPOIL ]] || mkdir -- "${LONGSEQ_LOG%/log/broadcast/log}/$SPOIL"
    echo copied
fi
if [[ $* == *"$HANG"* ]]; then
    touch "$HOME/up"
    sleep 300
fi
[[ $* != *longseq.host.broadcast* ]] || exit 0
[[ $* != *pretrain_gpt.py* ]] || exit 137
while [[ $1 != /bin/sh ]]; do shift; done
exec "$@"
"""
NAMES = ["TERM", "INT", "USR1"]


@pytest.fixture
def ready(tree: Tree, tmp_path: Path) -> Tree:
    write_script(tmp_path / "mpi/bin/mpiexec", LAUNCHER)
    tree.environment(mpi=tmp_path / "mpi")
    (tree.home / "disk").mkdir()
    return tree


def environment(tree: Tree, **env: str) -> dict[str, str]:
    python = str(next(tree.root.glob("venvs/*/*/bin/python")))
    given = {"NGPU_PER_HOST": "1", "PREFLIGHT_SECONDS": "200", "TMPDIR": str(tree.home / "disk")}
    return tree.command(
        **{"HANG": "nothing hangs", "SPOIL": "", "PYTHON_HERE": python} | given | env
    )[1]


def told(tree: Tree, program: str, name: str, **env: str) -> tuple[int, str]:
    """Exit code and words of a script that is sent a signal once `up` is there."""
    with subprocess.Popen(
        [str(tree.root / "ALCF" / program)],
        env=environment(tree, **env),
        stderr=subprocess.PIPE,
        text=True,
    ) as script:
        end = time.monotonic() + 30
        while not (tree.home / "up").exists() and time.monotonic() < end:
            time.sleep(0.05)
        script.send_signal(getattr(signal, f"SIG{name}"))
        _, said = script.communicate(timeout=60)
    wait_until(lambda: not processes_with(str(tree.home)), "something is left", 5)
    return script.returncode, said


@pytest.mark.parametrize("name", NAMES)
def test_while_the_hosts_are_looked_at(ready: Tree, name: str) -> None:
    code, said = told(ready, "train-gpt3.sh", name, PREFLIGHT="1", HANG="doctor probe")
    assert code == 75, said
    assert said.endswith("longseq: stopped before its ranks were started\n")
    assert not [*ready.root.glob("outputs/*/hosts.txt")]


@pytest.mark.parametrize("name", NAMES)
def test_while_the_doctor_asks(ready: Tree, name: str) -> None:
    code, said = told(ready, "doctor.sh", name, HANG="doctor probe")
    assert (code, said) == (75, "longseq: stopped before it was done\n")
    assert not [*ready.root.glob("outputs/*")]


@pytest.mark.parametrize("name", NAMES)
def test_while_the_environment_is_copied(ready: Tree, name: str) -> None:
    """The copy, so far as it is there, goes."""
    code, said = told(ready, "train-gpt3.sh", name, BROADCAST="1", HANG="host.broadcast")
    assert code == 75, said
    assert said.endswith("longseq: stopped before its ranks were started\n")
    assert not [*(ready.home / "disk").iterdir()]


def test_a_copy_goes_where_no_rank_can_be_started(ready: Tree) -> None:
    env = environment(ready, BROADCAST="1", SPOIL="hosts.txt")
    command = [str(ready.root / "ALCF/train-gpt3.sh")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "the environment is on the hosts' own disks" in done.stderr
    assert "hosts.txt cannot be written" in done.stderr
    assert not [*(ready.home / "disk").iterdir()]


ASKED = """
longseq_examine() { # only after the run does it take its time
    [[ $1 == *doctor-after ]] || return 0
    sleep 300 &
    touch "$HOME/up"
    wait
}
"""


@pytest.mark.parametrize("name", NAMES)
def test_after_a_run_that_failed(ready: Tree, name: str) -> None:
    """The run's own exit code counts, and no host is blamed."""
    with open(ready.root / "ALCF/preflight.sh", "a") as file:
        file.write(ASKED)
    (ready.home / "nodes").write_text("localhost\n127.0.0.1\n")
    env = {"HOSTFILE": str(ready.home / "nodes")}
    code, said = told(ready, "train-gpt3.sh", name, **env)
    assert code == 137, said
    assert "are all hosts still there?" in said
    assert "stopped" not in said


SAVES = """#!/bin/bash
[[ $1 != --version ]] || { echo HYDRA && exit; }
{ sleep 1; touch "$HOME/up"; sleep 2; echo 75 >"$LONGSEQ_LOG/exit-code"; } &
exit 1
"""


@pytest.mark.parametrize("name", NAMES)
def test_while_ranks_save_whose_launcher_is_gone(ready: Tree, tmp_path: Path, name: str) -> None:
    """Schedulers send TERM more than once; how the run ended is what the ranks say."""
    write_script(tmp_path / "mpi/bin/mpiexec", SAVES)
    code, said = told(ready, "train-gpt3.sh", name)
    assert code == 75, said


FAILS = """#!/bin/bash
[[ $1 != --version ]] || { echo HYDRA && exit; }
echo once >>"$HOME/starts"
{
    sleep 1; touch "$HOME/up"; sleep 1
    printf '1\\n127.0.0.1\\n69\\n0\\nlost\\n' >"$LONGSEQ_LOG/failed-1.txt"
} &
exit 1
"""


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_who_is_told_while_ranks_end_does_not_go_on(ready: Tree, tmp_path: Path, name: str) -> None:
    """Though it is a host that has failed; how the run ended is still what its rank says."""
    write_script(tmp_path / "mpi/bin/mpiexec", FAILS)
    (ready.home / "nodes").write_text("localhost\n127.0.0.1\n")
    env = {"HOSTFILE": str(ready.home / "nodes"), "PREFLIGHT": "0"}
    code, said = told(ready, "train-gpt3.sh", name, **env)
    assert code == 69, said
    assert "restart" not in said
    assert (ready.home / "starts").read_text() == "once\n"
