"""ALCF/status.sh: jobs, chains and runs in a few lines, by whatever Python a login node has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.shell import ROOT, Result, clean_env, write_script
from tests.launch.test_submit import Site

# A Python without any package beside it
BARE = f'#!/bin/sh\nexec {sys.executable} -S "$@"\n'


def status(home: Path, *words: str, **env: str) -> Result:
    python = str(write_script(home / "bare/python3", BARE))
    path = f"{home}/bin:/usr/bin:/bin"
    return subprocess.run(
        [str(ROOT / "ALCF/status.sh"), *words],
        env=clean_env(home, {"PATH": path, "PYTHON": python, "MACHINE": "workstation"} | env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run(folder: Path, count: int, state: str, total: int = 100) -> Path:
    (folder / "log").mkdir(parents=True)
    records = [
        {"iteration": n, "lm_loss": 3 - n / 50, "iteration_time": 2.0} for n in range(1, count + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    summary = {"status": state, "settings": {"training": {"train_iters": total}}}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def job(folder: Path, numbers: str, runs: list[Path], **files: str) -> None:
    folder.mkdir(parents=True)
    (folder / "settings.sh").touch()
    (folder / "jobs.txt").write_text("".join(f"{n}\n" for n in numbers.split()))
    (folder / "runs.txt").write_text("".join(f"{path}\0" for path in runs))
    for name, text in files.items():
        (folder / f"{name.replace('_', '-')}.txt").write_text(text)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A chain that runs, one that is done, a run that somebody started by hand, a damaged one."""
    folder = tmp_path / "outputs"
    first, second = run(folder / "one", 20, "stopped early"), run(folder / "two", 40, "running")
    job(folder / "jobs/chain", "71 72 73", [first, second], bad_hosts="n7 has stopped\n")
    done = run(folder / "three", 100, "done")
    job(folder / "jobs/finished", "61 62", [done], stopped="training is done\n")
    run(folder / "by-hand", 30, "running")
    damaged = run(folder / "damaged", 5, "running")
    (damaged / "summary.json").write_text('{"status": "runn')
    for age, path in enumerate([folder / "jobs/chain/settings.sh", folder / "damaged/log"]):
        os.utime(path, (2e9 + age, 2e9 + age))
    return folder


SQUEUE = """#!/bin/sh
[ "$1 $2 $4" = "-h -j -o" ] || exit 1
echo '72|RUNNING|None|2026-11-26T04:00:00'
echo '73|PENDING|Dependency|N/A'
echo '99|PENDING|Priority|2026-11-27T04:00:00'
"""


def test_jobs_chains_and_runs(outputs: Path, tmp_path: Path) -> None:
    write_script(tmp_path / "bin/squeue", SQUEUE)
    done = status(tmp_path, str(outputs), COLUMNS="120")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "jobs/finished, a chain of 2",
        "  ended: training is done",
        "  three",
        "    100/100  done",
        "    loss 1.1900, mean of 20",
        "jobs/chain, a chain of 3",
        "  72  running",
        "  73  waits: Dependency",
        "  at fault: n7",
        "  two",
        "    40/100  running, 0:02:00 left",
        "    loss 2.3900, mean of 20",
        "    goes on from 1 before it",
        "by-hand",
        "  30/100  running, 0:02:20 left",
        "  loss 2.5900, mean of 20",
        "damaged",
        "  5/?  summary.json is damaged",
        "  loss 2.9400, mean of 5",
    ]


def test_a_run_that_no_job_trains_does_not_run(outputs: Path, tmp_path: Path) -> None:
    """As of one that found no room for its last words; of one whose jobs are not known it may."""
    write_script(tmp_path / "bin/squeue", SQUEUE.replace("72|RUNNING", "72|COMPLETING"))
    done = status(tmp_path, str(outputs))
    assert "    40/100  ended, and has not said how\n" in done.stdout
    (outputs / "two/log/exit-code").touch()
    assert "    40/100  failed\n" in status(tmp_path, str(outputs)).stdout


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_no_line_is_wider_than_the_screen(outputs: Path, tmp_path: Path, columns: str) -> None:
    name = "GPT25B_tp4_ulysses8_dp16_s1048576_seed1234_20261126-042810_job1234567_8842"
    run(outputs / name, 3, "running", 320000)
    done = status(tmp_path, str(outputs), COLUMNS=columns)
    assert max(map(len, done.stdout.splitlines())) <= int(columns)
    assert "3/320000  running, 177:46:34 left" in done.stdout


def test_a_scheduler_that_does_not_answer(outputs: Path, tmp_path: Path) -> None:
    write_script(tmp_path / "bin/squeue", "#!/bin/sh\necho 'no connection' >&2; exit 1\n")
    silent = status(tmp_path, str(outputs))
    assert "submitted; whether it waits is not known" in silent.stdout
    assert "40/100  running, 0:02:00 left\n" in silent.stdout
    assert silent.stdout.splitlines()[-1] == "squeue: no connection"


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert status(tmp_path, str(tmp_path / "empty")).stdout.startswith("no job and no run")
    wrong = status(tmp_path, str(tmp_path / "nowhere"))
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


def test_what_pbs_says_of_a_chain(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (site.state / "hold").touch()
    site.plan.write_text("0 0")
    folder = site.job("--chain", "2")
    done = status(tmp_path, str(folder.parents[1]), COLUMNS="100")
    (site.state / "hold").unlink()
    assert done.stdout.splitlines()[:3] == [
        f"jobs/{folder.name}, a chain of 2",
        "  1000.stand-in  waits: Not Running: Insufficient amount of nodes",
        "  1001.stand-in  held: the job before",
    ]
