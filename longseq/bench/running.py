"""One case from its start to what became of it: a run of ALCF/train-gpt3.sh, in its own processes.

    result = run_case(case, how, seconds)       # a Result; None where somebody ended it

Whoever is ended with us: the script is told when this process is gone, and the ranks when the
script is.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longseq.bench.case import Case
from longseq.bench.kept import FAILED, OK, OOM, REFUSED, TIMED_OUT, Result
from longseq.errors import EXIT_DONE, EXIT_STOPPED_EARLY, EXIT_USER_ERROR
from longseq.reports.runs import read_metrics

ROOT = Path(__file__).resolve().parents[2]
WARM = 1  # steps that are not counted: they load, allocate and choose
END_SECONDS = 60.0  # for a run that was told to end
PR_SET_PDEATHSIG = 1  # of prctl(2)
# What allocators say, a rank's end by the kernel, and our own line: others may give it as advice
MEMORY = re.compile(
    r"(CUDA|HIP|XPU|[Ee]rror:|failed:|ran) out of memory|'out of memory'|can't allocate memory"
    r"|Cannot allocate memory|bad_alloc|MemoryError|longseq: out of memory in iteration"
)


@dataclass(frozen=True)
class How:
    """What all cases have in common; `memory_gib` of a rank on a CPU, 0: what there is."""

    folder: Path
    steps: int
    memory_gib: float
    extra: Sequence[str]


def run_case(case: Case, how: How, seconds: float) -> Result | None:
    """Run it for `seconds` at most. Raises KeyboardInterrupt when it has ended its ranks."""
    runs, log = how.folder / "runs" / case.key, how.folder / "log" / f"{case.key}.txt"
    shutil.rmtree(runs, ignore_errors=True)  # of a call that was ended in its middle
    runs.mkdir(parents=True)
    log.parent.mkdir(exist_ok=True)
    words = [str(ROOT / "ALCF/train-gpt3.sh"), "--", "--save", "", "--save-interval", "0"]
    words += ["--eval-iters", "0", "--log-interval", "1", *how.extra]
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            words,
            env=_environ(case, how, runs),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    text = log.read_text(encoding="utf-8", errors="replace")
    outcome, reason = judge(code, text, seconds)
    if code == EXIT_STOPPED_EARLY:
        return None
    measured = _measured(runs) if outcome == OK else {}
    if outcome == OK and "seconds" not in measured:
        outcome, reason = FAILED, f"it measured no step: {log}"
    run = next(iter(runs.iterdir()), runs)
    return Result(
        case.key,
        case.network,
        case.kernel,
        case.layout.name,
        case.layout.ranks,
        case.length,
        outcome,
        reason,
        wall_seconds=time.monotonic() - began,
        run=str(run.relative_to(how.folder)),
        host=socket.gethostname().split(".")[0],
        **measured,
    )


def _environ(case: Case, how: How, runs: Path) -> dict[str, str]:
    own = {
        "OUTPUT_DIR": str(runs.absolute()),
        "TRAIN_ITERS": str(how.steps + WARM),
        "WANDB_MODE": "disabled",
        "PLAN": "0",
    }
    if how.memory_gib:
        own["LONGSEQ_RANK_KIB"] = str(int(how.memory_gib * 2**20))
    return {"MICRO_BATCH": "1", **os.environ, **case.variables(), **own}


def _end_with_parent() -> None:
    """In the script, before it is one: it is told to end where this process is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a script that still runs; it ends its ranks, and they end themselves without it."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def judge(code: int | None, text: str, seconds: float) -> tuple[str, str]:
    """What became of a run that ended with `code` (None: it did not) and printed `text`; why."""
    if code is None:
        return TIMED_OUT, f"not done after {seconds:.0f} s"
    if code == EXIT_DONE:
        return OK, ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    memory = [line for line in lines if MEMORY.search(line)]
    if memory:
        return OOM, memory[0]
    reason = (lines or ["it printed nothing"])[-1].removeprefix("longseq: ")
    return (REFUSED if code == EXIT_USER_ERROR else FAILED), reason


def _measured(runs: Path) -> dict[str, Any]:
    """The figures of Result, from the metrics.jsonl that a run left."""
    records: list[dict[str, Any]] = []
    for path in runs.glob("*/metrics.jsonl"):
        records = read_metrics(path)[0]
    names = {"seconds": "iteration_time"}
    names |= {key: key for key in ("tokens_per_sec", "tflops", "model_tflops")}
    found: dict[str, Any] = {}
    for name, key in names.items():
        values = [record[key] for record in records[WARM:] if record.get(key) is not None]
        if values:
            found[name] = statistics.median(values)
    plan = {"planned_gib": "planned_memory_gib", "measured_gib": "measured_memory_gib"}
    for record in records:
        found |= {name: record[key] for name, key in plan.items() if record.get(key) is not None}
    peaks = [record["peak_memory_gib"] for record in records if record.get("peak_memory_gib")]
    return found | ({"peak_gib": max(peaks)} if peaks else {})
