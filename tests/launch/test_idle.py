"""What ends a run in which nothing moves, from outside of Python (ALCF/idle.sh)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.shell import Result, Tree, processes_with, write_script

Bash = Callable[..., Result]
HANGS = """#!/bin/bash
[[ $1 != --version ]] || { echo "HYDRA build details" && exit; }
marker=a-launcher-of-the-idle-test
sleep 600 & wait
"""


def test_a_launcher_that_hangs_is_ended(tree: Tree, tmp_path: Path) -> None:
    write_script(tmp_path / "mpi/bin/mpiexec", HANGS)
    tree.environment(mpi=tmp_path / "mpi")
    result = tree.launch(IDLE_TIMEOUT="3s")
    assert result.returncode == 69, result.stderr
    said = [line for line in result.stderr.splitlines() if "nothing has moved" in line]
    assert len(said) == 1, result.stderr
    assert said[0].startswith("longseq: nothing has moved for 3s (IDLE_TIMEOUT)")
    assert "0 of 2 ranks have given a sign of life; the launcher hydra (process" in said[0]
    assert "no rank said why" not in result.stderr
    assert not processes_with(str(tree.root))


# A run's folder, a process group that would go on for ever, and LONGSEQ_IDLE_GRACE of a second
WATCH = """
LONGSEQ_RUN=$1 LONGSEQ_RANKS=2 LONGSEQ_HOSTS=(alpha beta.site.edu) LONGSEQ_STARTER=srun
declare -gA LONGSEQ_VALUE; LONGSEQ_VALUE[IDLE_TIMEOUT]=4s; LONGSEQ_IDLE_GRACE=1
mkdir -p "$1/log"
set -m; sleep 600 & process=$!; set +m
"""


@pytest.mark.parametrize(
    ("script", "status", "says"),
    [
        # A rank of one host has been heard, and beats no more
        (
            """echo '{"rank": 0, "host": "alpha"}' >"$1/log/beat-0.json"
            longseq_watch_idle $process || echo $?""",
            "69\n",
            "1 of 2 ranks have given a sign of life, none on beta.site.edu; the launcher srun",
        ),
        # It beats, once a second, until the run has ended
        (
            """{ for n in 1 2 3 4 5 6 7; do sleep 1; echo "$n" >"$1/log/beat-7.json"; done
            kill -KILL $process; } & longseq_watch_idle $process; echo $?""",
            "0\n",
            "",
        ),
        # A rank has failed, and its launcher stays, with one that prints
        (
            """echo x >"$1/log/failed-1.txt"
            { while sleep 0.3; do date +%N; done >"$1/log/rank0.out"; } & writer=$!
            longseq_watch_idle $process; echo $?; kill $writer""",
            "0\n",
            "a rank failed, and the launcher srun does not end: it is ended",
        ),
        # It has not noticed that its only rank is gone
        (
            """kill -KILL $process; LONGSEQ_HOSTS=(localhost) LONGSEQ_VALUE[IDLE_TIMEOUT]=30s
            set -m; bash -c 'sleep 0.1 & exec sleep 600' & process=$!; set +m
            longseq_watch_idle $process || echo $?""",
            "69\n",
            "no rank is left, none said why, and the launcher srun does not end: it is ended",
        ),
    ],
)
def test_what_is_a_sign_of_life(
    bash: Bash, tmp_path: Path, script: str, status: str, says: str
) -> None:
    result = bash(WATCH + script, str(tmp_path / "run"))
    assert result.stdout == status
    assert says in result.stderr
