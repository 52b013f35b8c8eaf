"""A trainer that ends as a test plans it, and what can be seen of the jobs that ran it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The n-th start ends with the n-th word of the file named by WANDB_NOTES, a variable that travels.
# "wait": when told by a signal; "stop": by RUN/STOP; "host": its host is at fault; a word that
# begins with "x": before its first iteration
PLANNED = """
import json, os, pathlib, signal, sys, time
value = lambda name: sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None
run, plan = pathlib.Path(value("--run-dir")), pathlib.Path(os.environ["WANDB_NOTES"])
notes = plan.with_suffix(".seen")
past = notes.read_text().splitlines() if notes.exists() else []
code = plan.read_text().split()[len(past)]
if code[0] != "x":  # a checkpoint of no tensors, which the next job's LOAD is checked against
    from longseq.checkpoint.fit import network
    from longseq.checkpoint.format.manifest import Manifest, PROGRESS
    from longseq.config.checks import parse_config
    config = parse_config(sys.argv[1:], int(os.environ["WORLD_SIZE"]))
    (run / "checkpoints/step-1").mkdir()
    net, optimizer = network(config.network), config.training.optimizer
    manifest = Manifest(dict.fromkeys(PROGRESS, 1), net, optimizer, 16, "", {}, {})
    manifest.write(run / "checkpoints/step-1")
    (run / "checkpoints/latest").write_text("step-1")
    (run / "metrics.jsonl").write_text(json.dumps({"iteration": len(past) + 1}) + "\\n")
with open(notes, "a") as file:
    line = [value("--load"), os.environ.get("LONGSEQ_END_TIME"), sys.argv]
    file.write(json.dumps(line) + "\\n")
if code == "wait":
    told = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda n, frame: told.append(n))
    end = time.time() + 100
    while not told and time.time() < end:
        time.sleep(0.1)
    code = 75 if told else 1
if code == "stop":
    (run / "STOP").touch()
    code = 75
if code == "host":
    from longseq.run.safety.abort import report
    report(69, "this host has stopped")
    code = 69
os._exit(int(str(code).strip("x")))
"""

# Rank 1 is killed from outside, after a checkpoint
KILLED = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--run-dir") + 1], "checkpoints", "step-7")
if os.environ["RANK"] == "1":
    folder.mkdir(parents=True)
    (folder / "manifest.json").touch()
    os.kill(os.getpid(), 9)
time.sleep(50)
"""


def says_who_was_killed(said: str, host: str) -> None:
    """KILLED's rank 1: its host, the signal, what is behind it, and where to go on from."""
    lines = [line for line in said.splitlines() if line.startswith("longseq: ")]
    (k,) = (k for k, line in enumerate(lines) if f"rank 1 on {host} failed first" in line)
    run = Path(lines[k].rpartition(" is in ")[2]).parents[1]
    pattern = rf"longseq: rank 1 \(process \d+\) on {host} was ended by SIGKILL: not for want of"
    assert re.match(pattern, lines[k + 1]), lines
    load = f"longseq: its newest checkpoint is of iteration 7: go on with LOAD={run}"
    assert lines[k + 2] == load


def wait_for_job(job: Path, number: int, seconds: float = 100) -> str:
    """The output of a job's folder once `number` jobs of it have ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = (job / "output.txt").read_text() if (job / "output.txt").exists() else ""
        if f"\n{text}".count("\nlongseq: job ends with ") >= number:
            return text
        time.sleep(0.1)
    outputs = [path.read_text() for path in job.glob("*.o*")] + [text]
    raise AssertionError("\n".join(outputs)[-6000:])


def runs_of(job: Path) -> list[Path]:
    return [Path(name) for name in (job / "runs.txt").read_text().split("\0")[:-1]]


def seen(plan: Path) -> list[list[Any]]:
    path = plan.with_suffix(".seen")
    return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []


def wait_until(test: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, what
        time.sleep(0.1)
