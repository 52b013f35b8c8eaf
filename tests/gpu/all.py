"""The steps of tests/gpu/run.sh in the order of their worth, each a process of its own.

    python -m tests.gpu.all [--within 25m] [--out DIR] [--steps a,b] [--docs]

What measures no time runs side by side, where the GPU has the memory for that, and then what does,
one after another. A step has its share of the time that is left, is ended at its limit, and goes on
at the next call with the same --out: what is finished is not run again while the code is the same.
Each keeps its rows in DIR/NAME.json, what it printed in DIR/NAME.log; all of them, with machine,
GPU, driver, date and commit, are in DIR/results.json. Exit code 0: nothing wrong and nothing
failed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import torch

from longseq.host.atomic_files import replace_file
from longseq.run.environment import environment
from tests.gpu import page
from tests.gpu.results import CUT_OFF, FAULTY, short
from tests.gpu.steps import STEPS, Step

ROOT = Path(__file__).parents[2]
# What a result depends on
CODE = ("longseq/**/*.py", "tests/gpu/*.py", "benchmarks/**/*.py", "pretrain_gpt.py")
GRACE = 10.0  # seconds that a step has to end in, once it was told to
SIDE_BY_SIDE = 40  # GiB of a GPU that the steps without times can share
running: set[subprocess.Popen[bytes]] = set()


def seconds(text: str) -> float:
    """25m, 90s, 1h or a number of seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not found or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: give 25m, 90s or 1h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def chosen(text: str) -> list[Step]:
    """The steps that a list of names means, in the order of their worth."""
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in {step.name for step in STEPS}]
    if unknown:
        known = ", ".join(step.name for step in STEPS)
        raise argparse.ArgumentTypeError(f"no step {unknown[0]!r}: choose among {known}")
    return [step for step in STEPS if step.name in names]


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument("--within", type=seconds, default=25 * 60.0, help="time for all of it")
    result.add_argument("--out", type=Path, default=ROOT / "outputs" / "gpu")
    result.add_argument("--steps", type=chosen, default=list(STEPS), help="names, commas between")
    result.add_argument("--docs", action="store_true", help="keep them in docs/, with gpu.md")
    return result


# ---------------------------------------------------------------- what the results are of


def digest_of_code() -> str:
    """Of all files that a result depends on, as they are: no commit is needed."""
    sha = hashlib.sha256()
    for pattern in CODE:
        for path in sorted(ROOT.glob(pattern)):
            sha.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return sha.hexdigest()[:16]


def this_machine() -> dict[str, Any]:
    """Where and of what the results are."""
    found = environment()
    kept = ("time", "python", "packages", "commit", "system", "cpu", "memory_gib", "gpus")
    cuda = torch.cuda.is_available()
    return {name: found[name] for name in kept} | {
        "code": digest_of_code(),
        "gpu": torch.cuda.get_device_name() if cuda else "",
        "gpu_count": torch.cuda.device_count() if cuda else 0,
        "cuda": torch.version.cuda or "",
    }


class Record:
    """DIR/results.json: the machine, and what became of each step."""

    def __init__(self, folder: Path) -> None:
        """Results of other code, or of another GPU, that lie in `folder` are put beside it."""
        self.folder, self.path = folder, folder / "results.json"
        self.machine = this_machine()
        self.lock = threading.Lock()
        self.steps: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            old = json.loads(self.path.read_text(encoding="utf-8"))
            if all(old["machine"][key] == self.machine[key] for key in ("code", "gpu")):
                self.steps = old["steps"]
            else:
                aside = folder.with_name(f"{folder.name}-{old['machine']['time']}")
                folder.rename(aside)
                print(f"results of other code or of another GPU are now in {aside}")
        folder.mkdir(parents=True, exist_ok=True)

    def rows_of(self, step: Step) -> Path:
        return self.folder / f"{step.name}.json"

    def is_finished(self, step: Step) -> bool:
        return self.steps.get(step.name, {}).get("finished", False)

    def keep(self, step: Step, finished: bool, seconds: float, why: str = "") -> None:
        """What became of a step, with the rows that it has left."""
        with self.lock:
            self._keep(step, finished, seconds, why)

    def _keep(self, step: Step, finished: bool, seconds: float, why: str) -> None:
        rows: list[dict[str, Any]] = []
        if self.rows_of(step).exists():
            rows = json.loads(self.rows_of(step).read_text(encoding="utf-8"))["rows"]
        before = self.steps.get(step.name, {}).get("seconds", 0.0)
        self.steps[step.name] = {
            "shows": step.shows,
            "finished": finished,
            "seconds": round(before + seconds, 1),
            "why": why,
            "rows": rows,
        }
        text = json.dumps({"machine": self.machine, "steps": self.steps}, indent=1)
        replace_file(self.path, text + "\n")

    @property
    def exit_code(self) -> int:
        verdicts = {row["verdict"] for step in self.steps.values() for row in step["rows"]}
        broke = any(step["why"].startswith("ended with") for step in self.steps.values())
        return int(broke or bool(verdicts & {"wrong", "failed"}))


# ---------------------------------------------------------------- running them


def can_share(cuda: bool) -> bool:
    """Whether the GPU has the memory for several steps at the same time."""
    # Its properties: to ask for its memory would take some of it while speed is measured
    return cuda and torch.cuda.get_device_properties(0).total_memory >= SIDE_BY_SIDE * 2**30


def limit_of(step: Step, left: float, later: list[Step]) -> float:
    """Seconds for a step, so that those after it can have their least; 0: too few are left."""
    spared = left - sum(other.least for other in later)
    limit = min(step.most, left, max(spared, step.least))
    return limit if limit >= step.least else 0.0


def run(step: Step, record: Record, limit: float, cuda: bool) -> None:
    """Run one step, at most `limit` seconds, and keep what it found."""
    why = ""
    if importlib.util.find_spec(step.program) is None:
        why = "it is not written yet"
    elif not cuda and not step.on_cpu:
        why = "no GPU is in sight here"
    elif not limit:
        why = "too little time was left"
    if why:
        record.keep(step, False, 0.0, f"not run: {why}")
        return
    command = [sys.executable, "-m", step.program, "--within", f"{limit:.0f}"]
    command += ["--out", str(record.rows_of(step))]
    command += ["--device", "cuda"] if cuda else ["--device", "cpu", "--tiny"]
    began = time.monotonic()
    code = CUT_OFF  # where this program is told to end, what the step has found is kept too
    try:
        code = watched([*command, *step.words], record.folder / f"{step.name}.log", limit + GRACE)
    finally:
        took = time.monotonic() - began
        finished = code in (0, FAULTY)
        if finished:
            why = "" if cuda else "on a CPU: what one can show of this"
        elif code == CUT_OFF or took > limit:
            why = f"cut off after {took:.0f} s; it goes on at the next call"
        else:
            why = f"ended with exit code {code}; {step.name}.log says more"
        record.keep(step, finished, took, why)


def watched(command: list[str], log: Path, limit: float) -> int:
    """The exit code of a command whose output goes to the terminal and to `log`; ended at `limit`.

    All that it has started ends with it. One that this program has ended has been cut off.
    """
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=file, start_new_session=True
        )
        running.add(process)
        assert process.stdout is not None
        timers = [
            threading.Timer(limit, end, (process, signal.SIGTERM)),
            threading.Timer(limit + GRACE, end, (process, signal.SIGKILL)),
        ]
        for timer in timers:
            timer.start()
        try:
            for line in process.stdout:
                file.write(line)
                file.flush()
                sys.stdout.write(line.decode(errors="replace"))
                sys.stdout.flush()
            code = process.wait()
            return code if process in running else CUT_OFF
        finally:
            for timer in timers:
                timer.cancel()
            end(process, signal.SIGKILL)
            process.wait()
            running.discard(process)


def side_by_side(steps: list[Step], record: Record, limits: list[float]) -> None:
    """Run steps at the same time on one GPU; those after them have it for themselves."""
    given = "OMP_NUM_THREADS" in os.environ
    threads = max(1, (os.cpu_count() or 1) // len(steps))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # each would take all cores
    with ThreadPoolExecutor(len(steps)) as pool:
        found = [
            pool.submit(run, step, record, limit, True)
            for step, limit in zip(steps, limits, strict=True)
        ]
        try:
            wait(found)
        except BaseException:
            for process in list(running):
                running.discard(process)
                end(process, signal.SIGKILL)
            raise
        finally:
            if not given:
                del os.environ["OMP_NUM_THREADS"]
    for each in found:
        each.result()


def end(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a process and to all that it has started."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def table(record: Record) -> Iterator[str]:
    """A line a step: what became of it."""
    yield f"{'step':<12} {'seconds':>7}  found"
    for name, kept in record.steps.items():
        verdicts = Counter(row["verdict"] for row in kept["rows"])
        found = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
        yield f"{name:<12} {kept['seconds']:>7.0f}  " + "; ".join(
            filter(None, (found, kept["why"]))
        )
        for row in kept["rows"]:
            if row["verdict"] in ("wrong", "failed", "out of memory"):
                values = [f"{k} {short(v)}" for k, v in row.items() if k not in page.NO_VALUES]
                why = row.get("why", "")[:160]
                yield " ".join(["    ", row["what"], row["verdict"], *values, why])


def main(argv: list[str] | None = None) -> int:
    options = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # From when this program began: torch's import takes seconds
    ends = time.monotonic() + options.within - (time.time() - psutil.Process().create_time())
    cuda = torch.cuda.is_available()
    record = Record(options.out.resolve())
    print(page.title(record.machine), flush=True)
    steps = [step for step in options.steps if not record.is_finished(step)]
    shared = [step for step in steps if not step.alone] if can_share(cuda) else []
    steps = [step for step in steps if step not in shared]
    if len(shared) > 1:
        print("\n== side by side:", *(f"{step.name}: {step.shows}" for step in shared), sep="\n   ")
        left = ends - time.monotonic()
        side_by_side(shared, record, [limit_of(step, left, steps) for step in shared])
    else:
        steps = shared + steps
    for number, step in enumerate(steps):
        print(f"\n== {step.name}: {step.shows}", flush=True)
        run(step, record, limit_of(step, ends - time.monotonic(), steps[number + 1 :]), cuda)
    print("", *table(record), f"all of it: {record.path}", sep="\n")
    if options.docs:
        page.keep(record.folder)
    return record.exit_code


if __name__ == "__main__":
    sys.exit(main())
