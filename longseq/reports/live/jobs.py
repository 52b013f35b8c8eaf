"""A job's folder, a chain's: the runs, and what has become of the jobs.

job = read_job(Path("outputs/jobs/JOB"))    # Job(folder, numbers=["71", "72"], runs=[…], …)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

SETTINGS = "settings.sh"  # what makes a folder that of a job


@dataclass(frozen=True)
class Job:
    """The scheduler's numbers, the runs, why no job is left, and the hosts at fault."""

    folder: Path
    numbers: list[str]
    runs: list[Path]
    stopped: str
    bad: list[str]


def read_job(folder: Path) -> Job:
    """From what submit.sh and the jobs have left there (ALCF/freeze.sh, ALCF/chain.sh)."""
    runs = [Path(name) for name in _text(folder / "runs.txt").split("\0") if name]
    bad = [line.split()[0] for line in _text(folder / "bad-hosts.txt").splitlines() if line.strip()]
    stopped = _text(folder / "stopped.txt").strip().splitlines()
    numbers = [line for line in _text(folder / "jobs.txt").split() if re.match(r"\d", line)]
    return Job(folder, numbers, runs, stopped[-1] if stopped else "", list(dict.fromkeys(bad)))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
