"""Stopping in time: on a signal, on request, or before the job's wall time ends, with a checkpoint
and exit code 75.

    stopper = Stopper(end_time(os.environ))
    stopper.ask(TERM)                          # from the thread that sees signals (watch.py)
    stopper.at("step")                         # as a step begins, and with each other phase
    …
    if reason := stopper.should_stop(ranks):   # once a step, on every rank
        save; exit 75
    looks = Looks(stopper, ranks)              # in a validation: looks(batch, wait) before each

A signal may reach one rank only, and clocks differ, so the ranks agree by a collective each step.
"""

from __future__ import annotations

import math
import re
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from longseq.errors import UserError
from longseq.parallel.agreement import Ranks

GO_ON, WALL_TIME, STOP_FILE, USR1, ORPHAN, HUP, TERM, INT = range(8)
REASONS = {
    WALL_TIME: "the wall time is nearly over",
    STOP_FILE: "there is a file STOP in the run's folder",
    USR1: "SIGUSR1",
    ORPHAN: "whoever started it is gone",
    HUP: "SIGHUP",
    TERM: "SIGTERM",
    INT: "Ctrl-C (again: stop at once, without a checkpoint)",
}

FIRST_SAVE = 60.0  # seconds allowed for a save before one was measured
LEAST_MARGIN = 5.0
LOOK_EVERY = 1.0  # seconds, in a validation
WALL = re.compile(r"(?:(\d{1,6})-)?(\d{1,9}):(\d{1,2}):(\d{1,2})\Z")
SHORT = re.compile(r"(\d{1,9})(s|m|h|d)\Z")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(walltime: str) -> float:
    """Seconds of `HH:MM:SS`, `D-HH:MM:SS`, `30m`, `6h`. Raises UserError for anything else."""
    text = walltime.strip()
    if match := WALL.match(text):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    elif match := SHORT.match(text):
        total = int(match[1]) * UNITS[match[2]]
    else:
        total = 0
    if total <= 0:
        raise UserError(f"WALLTIME={walltime!r} is not a time: write HH:MM:SS, 30m or 6h")
    return float(total)


def end_time(environ: Mapping[str, str], started: float | None = None) -> float | None:
    """When the job ends, in seconds since the epoch; None where nothing says so.

    LONGSEQ_END_TIME (ALCF/deadline.sh, which asks the scheduler, knows when it was started itself,
    and says which end was past; empty: it knows none), else Slurm's SLURM_JOB_END_TIME, which is
    another job's where it is past; and WALLTIME after `started` (now). The earliest counts.

    LONGSEQ_END_UPTIME is the same end by a clock of the script's host that nobody sets: there it
    takes the place of LONGSEQ_END_TIME, and on other hosts rank 0 alone looks at that.
    """
    now = time.time() if started is None else started
    end = environ.get("LONGSEQ_END_TIME")
    if end is None:
        end = environ.get("SLURM_JOB_END_TIME", "")
        end = end if end.isdecimal() and float(end) > now else ""
    ends = [float(end)] if end.isdecimal() else []
    host, _, uptime = environ.get("LONGSEQ_END_UPTIME", "").rpartition(":")
    if uptime.isdecimal() and host == socket.gethostname():
        ends = [now + float(uptime) - _uptime()]
    elif uptime and environ.get("RANK", "0") != "0":
        ends = []
    if environ.get("WALLTIME"):
        ends.append(now + seconds_of(environ["WALLTIME"]))
    return min(ends, default=None)


def _uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


class BrokenOff(Exception):
    """All ranks end a validation before they have done all of its batches."""

    def __init__(self, reason: str, batches: int) -> None:
        super().__init__(reason)
        self.reason, self.batches = reason, batches


class Stopper:
    """Remembers why this rank should stop, and asks the others once a step."""

    def __init__(self, end: float | None = None) -> None:
        """`end` is the job's end in seconds since the epoch, None where nothing says so.

        From here on it is measured by a clock that nobody sets.
        """
        self.began = time.monotonic()
        self._end = None if end is None else self.began + end - time.time()
        self._requested = GO_ON
        self.longest_step = 0.0
        self._steps, self._first, self._longest = 0, 0.0, 0.0  # the longest but the first
        self._step_began: float | None = None
        self._longest_save: float | None = None

    def ask(self, reason: int) -> None:
        """Wish for the end after this step; the weightiest reason is kept."""
        self._requested = max(self._requested, reason)

    @property
    def requested(self) -> int:
        """This rank's own reason so far."""
        return self._requested

    def at(self, phase: str) -> None:
        """What begins now. A "step" lasts until the next phase, or until the ranks look whether to
        stop: set-up, validations, loads and saves are no part of one.
        """
        self._end_step()
        if phase == "step":
            self._step_began = time.monotonic()

    def _end_step(self) -> None:
        """The first step of a process also compiles and fills caches: it counts until two others
        are known.
        """
        if self._step_began is None:
            return
        took, self._step_began = time.monotonic() - self._step_began, None
        self._steps += 1
        if self._steps == 1:
            self._first = took
        else:
            self._longest = max(self._longest, took)
        self.longest_step = max(self._longest, self._first if self._steps < 3 else 0.0)

    def saved_in(self, seconds: float) -> None:
        """Tell how long a save takes: the margin follows it."""
        self._longest_save = max(seconds, self._longest_save or 0.0)

    def margin(self, coming: float | None = None) -> float:
        """Seconds before the end at which to stop: what comes before the next look (a step, or
        `coming` seconds), a save, and as much again for bad luck.
        """
        save = self._longest_save
        if save is None:
            whole = (self._end or self.began) - self.began
            save = min(FIRST_SAVE, 0.1 * max(whole, 0.0))
        return LEAST_MARGIN + 2 * ((self.longest_step if coming is None else coming) + save)

    def request(self, coming: float | None = None) -> int:
        """This rank's wish as a number, for a collective of the caller's own."""
        self._end_step()
        now, end = time.monotonic(), self._end
        if self._requested == GO_ON and end is not None and now > end - self.margin(coming):
            return WALL_TIME
        return self._requested

    def should_stop(self, ranks: Ranks, coming: float | None = None) -> str | None:
        """Why all ranks stop now, or None; a collective, to be called by every rank once a step.

        coming: seconds before the next look, where they are not those of a step.
        """
        return REASONS.get(ranks.largest(self.request(coming)))


class Looks:
    """Whether to stop in the middle of a validation, which may be longer than all that is left of a
    job: a collective, before the first batch and then about once a second.

    A look waits for the device, so not each batch has one. All ranks come to the same number of
    batches before the next, as it follows from the time of the slowest.
    """

    def __init__(self, stopper: Stopper, ranks: Ranks) -> None:
        self._stopper, self._ranks = stopper, ranks
        self._last = self._next = 0
        self._since = time.monotonic()

    def __call__(self, batch: int, wait: Callable[[], object]) -> None:
        """Before the batch of that number; `wait` returns when those before it are done. Raises
        BrokenOff.
        """
        if batch < self._next:
            return
        wait()
        ahead, coming = 1, self._stopper.longest_step  # of one batch nobody knows more
        if done := batch - self._last:
            mine = time.monotonic() - self._since
            one = max(self._ranks.largest(math.ceil(1000 * mine)), 1) / 1000 / done
            ahead = max(1, min(2 * done, int(LOOK_EVERY / one)))
            coming = one * ahead
        reason = REASONS.get(self._ranks.largest(self._stopper.request(coming)))
        if reason:
            raise BrokenOff(reason, batch)
        self._last, self._next, self._since = batch, batch + ahead, time.monotonic()
