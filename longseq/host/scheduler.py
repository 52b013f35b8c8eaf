"""What the scheduler says of our jobs: Slurm's squeue, PBS's and Cobalt's qstat.

asked = ask(["1001", "1002"])       # Asked({"1001": "running", "1002": "waits: Dependency"}, "")
"""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

SECONDS = 20  # a login node's scheduler may not answer at all
# What schedulers say of a job that is in the queue no more, with an error's status
ENDED = re.compile(r"finished|Unknown Job Id|Invalid job id", re.IGNORECASE)
SLURM = {"PENDING": "waits", "RUNNING": "running", "COMPLETING": "ends", "SUSPENDED": "suspended"}
PBS = {"Q": "waits", "H": "held", "R": "running", "E": "ends", "W": "waits", "S": "suspended"}


@dataclass(frozen=True)
class Asked:
    """What each job that is in the queue does; `trouble`: why nothing could be asked, or ""."""

    jobs: dict[str, str] = field(default_factory=dict)
    trouble: str = ""

    def of(self, job: str) -> str:
        """What a job does, by its number with the server's name or without; "" where nothing is
        known of it.
        """
        short = {number.split(".")[0]: said for number, said in self.jobs.items()}
        return self.jobs.get(job) or short.get(job.split(".")[0], "")


def is_here() -> bool:
    """Whether there is a scheduler's program to ask."""
    return any(map(shutil.which, ("squeue", "qstat")))


def ask(jobs: Iterable[str]) -> Asked:
    """Ask for all of `jobs`, the scheduler's numbers, at once."""
    wanted = list(jobs)
    asked = Asked(trouble="no scheduler here (squeue, qstat)")
    numbers = [job for job in wanted if job.isdecimal()]
    if shutil.which("squeue") and (numbers or not wanted):
        whose = ["-j", ",".join(numbers)] if numbers else ["-u", getpass.getuser()]
        asked = _answer(["squeue", "-h", *whose, "-o", "%i|%T|%r|%S"], _slurm)
    # Slurm's programs may be where no Slurm is
    if asked.trouble and shutil.which("qstat"):
        return _answer(["qstat", "-f", *wanted], _pbs) if wanted else Asked()
    return asked


def _answer(words: list[str], read: Callable[[str], dict[str, str]]) -> Asked:
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return Asked(trouble=f"{words[0]} does not answer")
    said = done.stderr.strip().splitlines()
    if done.returncode == 0 or (said and all(ENDED.search(line) for line in said)):
        return Asked(read(done.stdout))
    why = f": {said[-1].removeprefix(f'{words[0]}: ')}" if said else " fails"
    return Asked(read(done.stdout), words[0] + why)


def _slurm(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        job, state, reason, start = (line.strip().split("|") + [""] * 4)[:4]
        said = SLURM.get(state, state.lower())
        if said == "waits":
            said += f": {reason}" if reason not in ("", "None") else ""
            said += f", starts {start}" if re.match(r"\d{4}-", start) else ""
        found[job] = said
    return found


def _pbs(text: str) -> dict[str, str]:
    """`qstat -f`: attributes below `Job Id:`, long ones go on in lines that begin with a tab."""
    found: dict[str, str] = {}
    for part in re.split(r"^(?=Job Id: )", text.replace("\n\t", ""), flags=re.MULTILINE):
        name = re.match(r"Job Id: (\S+)", part)
        if not name:
            continue
        pairs: dict[str, str] = {}
        for line in part.splitlines():
            key, equals, value = line.strip().partition(" = ")
            if equals:
                pairs[key] = value
        state = pairs.get("job_state", "?")
        said = PBS.get(state, state.lower())
        if said in ("waits", "held"):
            why = pairs.get("comment", "")
            if "afterany" in pairs.get("depend", ""):
                why = why or "the job before"
            said += f": {why}" if why else ""
            start = pairs.get("estimated.start_time", "")
            said += f", starts {start}" if start else ""
        found[name[1]] = said
    return found
