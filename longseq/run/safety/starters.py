"""Who started this rank, and whether they are still there: a run whose script has died must end.

mine = starters(os.environ)
all(map(lives, mine))
told(mine)              # SIGTERM, where that was sent to one of them that cannot hear it
meant(SIGUSR1, os.environ)  # SIGTERM, where the script was sent that and passed SIGUSR1 on for it
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

Process = tuple[int, str]  # its number, and when it began


def starters(environ: Mapping[str, str]) -> list[Process]:
    """Processes of this host that started the run, and when they began: ALCF/train-gpt3.sh, where
    it is on this host, in a job ALCF/job.sh as well (HOST:ONE+OTHER), and the launcher's own, the
    parent of ALCF/rank.sh.
    """
    host, _, scripts = environ.get("LONGSEQ_SCRIPT", "").rpartition(":")
    numbers = scripts.split("+") if host == socket.gethostname() else []
    numbers.append(environ.get("LONGSEQ_PARENT", ""))
    found = [(int(number), _began(int(number))) for number in numbers if number.isdecimal()]
    return [process for process in found if process[1]]


def lives(process: Process) -> bool:
    """Whether it is still there: the same one, not another of its number."""
    return _began(process[0]) == process[1]


def told(processes: Iterable[Process]) -> signal.Signals | None:
    """A signal to stop that waits in one of them. A launcher that would kill its ranks for it, as
    Open MPI's does in a second, is started so that it cannot come (ALCF/running.sh).
    """
    for number, _ in processes:
        try:
            lines = Path(f"/proc/{number}/status").read_text(errors="replace").splitlines()
        except OSError:
            continue
        masks = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        waiting = int(masks.get("ShdPnd", "0"), 16) & int(masks.get("SigBlk", "0"), 16)
        for stop in (signal.SIGTERM, signal.SIGINT):
            if waiting >> (stop - 1) & 1:
                return stop
    return None


def meant(number: int, environ: Mapping[str, str]) -> int:
    """What the script was sent where it passed on `number`: Open MPI's mpiexec would kill the ranks
    for any but SIGUSR1, and no launcher passes SIGHUP on. RUN/log/signal.txt says it.
    """
    if number not in (signal.SIGUSR1, signal.SIGTERM) or not environ.get("LONGSEQ_LOG"):
        return number
    try:
        name = (Path(environ["LONGSEQ_LOG"]) / "signal.txt").read_text(errors="replace").strip()
    except OSError:  # it was this one, or it cannot be said
        return number
    return {"HUP": signal.SIGHUP, "INT": signal.SIGINT, "TERM": signal.SIGTERM}.get(name, number)


def _began(pid: int) -> str:
    """When a process began, in the kernel's ticks; "" where there is none, or a dead one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
