"""Checkpoints of real DeepSpeed engines on two real ranks: exact resume, kill -9, full disk."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longseq.checkpoint.checkpoint import find_latest
from longseq.parallel.agreement import Ranks
from tests.parallel.ranks import MPIEXEC, rank_environ

SCRIPT = Path(__file__).with_name("tiny_training.py")


def command(folder: Path, *options: str) -> list[str]:
    return [MPIEXEC, "-n", "2", sys.executable, str(SCRIPT), str(folder), *options]


def train(folder: Path, *options: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run it to its end; `before` is shell for the ranks' limits."""
    run = command(folder, *options)
    if before:
        run = ["bash", "-c", f'{before}; exec "$@"', "bash", *run]
    return subprocess.run(
        run, env=rank_environ(), capture_output=True, text=True, timeout=120, check=False
    )


def steps(done: subprocess.CompletedProcess[str]) -> dict[int, list[str]]:
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("step ")]
    return {int(words[1]): words[2:] for words in lines}


@pytest.mark.parametrize("options", ["--stage 1 --bf16", "--stage 3"])
def test_resumed_is_uninterrupted_bit_for_bit(tmp_path: Path, options: str) -> None:
    whole = train(tmp_path, "--steps", "5", "--save-interval", "3", *options.split())
    assert whole.returncode == 0, whole.stderr
    rest = train(tmp_path, "--steps", "5", "--load", *options.split())
    assert rest.returncode == 0, rest.stderr
    assert sorted(steps(rest)) == [4, 5]
    assert steps(rest) == {step: steps(whole)[step] for step in (4, 5)}


def test_kill_at_random_moments(tmp_path: Path) -> None:
    """Two runs, each killed while it saves all the time; each goes on from what is there."""
    chance = random.Random(1)
    newest = 0
    for _ in range(2):
        options = ["--steps", "999", "--save-interval", "1", "--width", "300"]
        run = subprocess.Popen(
            command(tmp_path, *options, *(["--load"] if newest else [])),
            env=rank_environ(),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert run.stdout is not None
        said = ""
        for line in run.stdout:
            said = line
            if line == f"saved {newest + 2}\n":
                break
        assert said, "it ended before it saved"
        time.sleep(chance.uniform(0, 0.3))
        os.killpg(run.pid, signal.SIGKILL)
        for line in run.stdout:
            said = line if line.startswith("saved ") else said
        run.wait()
        warned: list[str] = []
        path = find_latest(tmp_path, Ranks(), warned.append)
        assert warned == []
        assert int(path.name.removeprefix("step-")) >= int(said.split()[1]) > newest
        newest = int(path.name.removeprefix("step-"))


def test_full_disk_stops_with_one_sentence(tmp_path: Path) -> None:
    size = ["--width", "64"]
    assert train(tmp_path, "--steps", "1", "--save-interval", "1", *size).returncode == 0
    full = train(
        tmp_path, "--steps", "2", "--save-interval", "2", "--load", *size, before="ulimit -f 40"
    )
    assert full.returncode == 2, full.stderr
    assert [line for line in full.stderr.splitlines() if line.startswith("longseq:")] == [
        f"longseq: checkpoint {tmp_path}/step-2 cannot be written: no space left (disk full, quota"
        f" or file size limit): {tmp_path}/step-2.tmp/state/mp_rank_00_model_states.pt; free some,"
        " or choose another folder with --save"
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-1"]
    assert find_latest(tmp_path, Ranks(), pytest.fail).name == "step-1"
