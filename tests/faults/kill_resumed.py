"""Kill one run at random moments, each time going on from its newest checkpoint on another layout.

    python -m tests.faults.kill_resumed FOLDER [--kills 100] [--seed N]

The run saves at each iteration; all of its ranks are killed at once, as by a lost host: while they
load, in a step, in a save. Its losses must be those of a run that nobody killed, to 1e-6, none may
be missing, and no checkpoint may be damaged. Prints a line a kill; ends with 1 at the first that
goes wrong. What was done stands in FOLDER: called again, it goes on there.

Ranks are forked from this process, which has imported everything: seconds a kill, not a quarter of
a minute. No launcher, then: what it does about killed ranks is tests/launch's subject.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

os.environ["DS_ACCELERATOR"] = "cpu"
import deepspeed  # noqa: F401  # before the ranks are forked, and so once for all of them

import longseq.training.loop  # noqa: F401
import pretrain_gpt
from tests.parallel.ranks import ROOT, free_port

DATA = str(ROOT / "data" / "NC_001416.1.fa")
FLAGS = (
    "--num-layers 2 --hidden-size 64 --num-attention-heads 4 --seq-length 64 --eval-iters 0"
    " --use-rotary-position-embeddings --use-flash-attn-sdpa --lr 1e-5 --lr-decay-style constant"
    " --device cpu --global-batch-size 8 --train-iters 100000"
).split()
SAVES = "--save-interval 1 --keep-last 3".split()
LAYOUTS = (
    (1, "--zero-stage 0"),
    (1, "--zero-stage 1 --micro-batch-size 4"),
    (2, "--zero-stage 0"),
    (2, "--zero-stage 1 --micro-batch-size 2 --cpu-optimizer"),
    (2, "--zero-stage 2 --tensor-model-parallel-size 2 --sequence-parallel"),
    (2, "--zero-stage 3"),
    (2, "--zero-stage 3 --ds-sequence-parallel-size 2"),
    (2, "--zero-stage 2 --context-parallel-size 2"),
    (2, "--tensor-model-parallel-size 2"),
    (4, "--zero-stage 3 --tensor-model-parallel-size 2"),
    (4, "--zero-stage 1 --ds-sequence-parallel-size 2 --context-parallel-size 2"),
)
TOLERANCE = 1e-6
EARLY, LATE = 2.0, 1.5  # seconds: a third is killed so soon after the start, or while it loads;
# the others so soon after their first iteration
PATIENCE = 300.0  # seconds without a new iteration, on a busy machine
LOST = 2  # iterations at most, of which the checkpoint was not whole yet


def start(folder: Path, ranks: int, flags: list[str]) -> list[int]:
    """The processes of a run, whose metrics and output go to `folder`."""
    folder.mkdir(parents=True)
    port = free_port()
    return [_rank(folder, number, ranks, port, flags) for number in range(ranks)]


def _rank(folder: Path, number: int, ranks: int, port: str, flags: list[str]) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    output = os.open(folder / f"rank{number}.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ |= {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    code = 1
    try:
        code = pretrain_gpt.main([*FLAGS, "--data-path", DATA, "--run-dir", str(folder), *flags])
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def kill(processes: list[int]) -> list[int]:
    """SIGKILL to all at once; those that had ended by themselves before."""
    ended = [one for one in processes if os.waitpid(one, os.WNOHANG)[0]]
    for one in set(processes) - set(ended):
        os.kill(one, signal.SIGKILL)
        os.waitpid(one, 0)
    return ended


def losses(folder: Path) -> dict[int, float]:
    """By iteration, of the lines that were written whole."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    return {record["iteration"]: record["lm_loss"] for record in records}


def until(folder: Path, last: int, processes: list[int]) -> None:
    """Wait for an iteration, or until a rank has ended or nothing moves: who called sees that."""
    done, moved = 0, time.monotonic()
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while done < last and time.monotonic() - moved < PATIENCE:
        if any(os.waitid(os.P_PID, one, look) for one in processes):
            return
        time.sleep(0.05)
        before, done = done, max(losses(folder), default=0)
        moved = time.monotonic() if done > before else moved


def attempt(folder: Path, kept: Path, chance: random.Random) -> str:
    """Go on, and kill it; the layout that it was on. Exits where the run failed by itself."""
    ranks, layout = chance.choice(LAYOUTS)
    again = ["--load", str(kept)] if (kept / "latest").exists() else []
    processes = start(folder, ranks, [*layout.split(), *SAVES, "--save", str(kept), *again])
    if chance.random() < 1 / 3:
        time.sleep(chance.uniform(0.0, EARLY))
    else:
        until(folder, 1, processes)
        time.sleep(chance.uniform(0.0, LATE))
    ended = kill(processes)
    text = "".join(path.read_text() for path in sorted(folder.glob("rank*.txt")))
    if ended or "is damaged" in text:
        sys.exit(f"{folder}: {ranks} ranks, {layout}: {text[-1500:]}")
    return f"{ranks} ranks, {layout}"


def uninterrupted(folder: Path, last: int) -> dict[int, float]:
    """The losses of the iterations up to `last` on one rank that nobody kills before."""
    shutil.rmtree(folder, ignore_errors=True)
    processes = start(folder, 1, [])
    until(folder, last, processes)
    if kill(processes) or last not in losses(folder):
        sys.exit(f"{folder}: iteration {last} was not reached")
    return losses(folder)


class Kills:
    """The losses of each attempt so far, kept in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        records = [json.loads(line)["losses"] for line in lines]
        self.found = [{int(i): loss for i, loss in record.items()} for record in records]

    def seen(self) -> set[int]:
        return set().union(*self.found)

    def add(self, place: Path, layout: str) -> None:
        """Take in an attempt; exits where it did not go on where the one before had come."""
        found, reached = losses(place), max(self.seen(), default=0)
        if found and not reached - LOST < min(found) <= reached + 1:
            sys.exit(f"{place}: after {reached} it went on at {min(found)}, on {layout}")
        self.found.append(found)
        with self.path.open("a") as file:
            file.write(json.dumps({"layout": layout, "losses": found}) + "\n")
        shutil.rmtree(place)
        said = f"iterations {min(found)} to {max(found)}" if found else "before its first iteration"
        print(f"kill {len(self.found)}: {layout}: {said}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(options.seed)
    kills = Kills(folder / "kills.jsonl")
    for place in folder.glob("attempt-*"):  # this program was ended in its middle
        kills.add(place, "cut off")
    while len(kills.found) < options.kills:
        place = folder / f"attempt-{len(kills.found) + 1}"
        kills.add(place, attempt(place, folder / "kept", chance))
    last = max(kills.seen())
    print(f"the same {last} iterations, uninterrupted", flush=True)
    expected = uninterrupted(folder / "whole", last)
    worst = max(abs(found[i] - expected[i]) for found in kills.found for i in found)
    print(f"{len(kills.found)} kills, {last} iterations: losses differ by at most {worst:.2g}")
    return 0 if worst <= TOLERANCE and kills.seen() == set(range(1, last + 1)) else 1


if __name__ == "__main__":
    sys.exit(main())
