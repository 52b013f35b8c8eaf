"""Stopping in time: on a signal, or before the job's wall time ends, with a checkpoint and exit
code 75.

    stopper = Stopper(end_time(os.environ))
    stopper.install()
    …
    if reason := stopper.should_stop(ranks):   # once a step, on every rank
        save; exit 75

A signal may reach one rank only, and clocks differ, so the ranks agree by a collective each step.
Python calls its handlers between two lines of Python, and a rank that waits in C++ for another one
comes to none: a second Ctrl-C is therefore also seen by a thread, which ends the rank itself.
"""

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Mapping
from types import FrameType

from longseq.errors import UserError
from longseq.parallel.agreement import Ranks
from longseq.run.abort import tell_launcher

GO_ON, WALL_TIME, USR1, TERM, INT = range(5)
REASONS = {
    WALL_TIME: "the wall time is nearly over",
    USR1: "SIGUSR1",
    TERM: "SIGTERM",
    INT: "Ctrl-C (again: stop at once, without a checkpoint)",
}
SIGNALS = {signal.SIGUSR1: USR1, signal.SIGTERM: TERM, signal.SIGINT: INT}

FIRST_SAVE = 60.0  # seconds allowed for a save before one was measured
LEAST_MARGIN = 5.0
LAST_WORDS = 2.0  # seconds in which a rank may end by itself after the second Ctrl-C
EXIT_INTERRUPTED = 130
WALL = re.compile(r"(?:(\d+)-)?(\d+):(\d{1,2}):(\d{1,2})\Z")
SHORT = re.compile(r"(\d+)(s|m|h|d)\Z")
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

    LONGSEQ_END_TIME (from the launcher, which asks the scheduler) or Slurm's SLURM_JOB_END_TIME,
    else WALLTIME after `started` (now). The earliest counts.
    """
    ends = [
        float(environ[name])
        for name in ("LONGSEQ_END_TIME", "SLURM_JOB_END_TIME")
        if environ.get(name, "").isdecimal()
    ]
    if environ.get("WALLTIME"):
        ends.append((time.time() if started is None else started) + seconds_of(environ["WALLTIME"]))
    return min(ends, default=None)


def _end_at_second_interrupt(signals: socket.socket) -> None:
    """Read the numbers of the signals as they come, also while the main thread is in C++."""
    interrupts = 0
    while numbers := signals.recv(64):
        interrupts += numbers.count(signal.SIGINT)
        if interrupts >= 2:
            break
    signals.settimeout(LAST_WORDS)
    try:
        while signals.recv(64):
            continue
    except TimeoutError:
        tell_launcher(EXIT_INTERRUPTED)
        os._exit(EXIT_INTERRUPTED)


class Stopper:
    """Remembers why this rank should stop, and asks the others once a step."""

    def __init__(self, end: float | None = None) -> None:
        """`end` is the job's end in seconds since the epoch, None where nothing says so."""
        self.began = time.monotonic()
        self._end = end
        self._wakeup: socket.socket | None = None
        self._requested = GO_ON
        self._started = time.time()
        self._last = self._started
        self._longest_step = 0.0
        self._longest_save: float | None = None

    def install(self) -> None:
        """Take SIGTERM, SIGUSR1 and SIGINT; only the main thread may call it."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        here, there = socket.socketpair()
        there.setblocking(False)
        signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
        self._wakeup = there
        threading.Thread(target=_end_at_second_interrupt, args=(here,), daemon=True).start()

    def uninstall(self) -> None:
        """Undo `install()`: signals act as they do in any Python program."""
        for number in SIGNALS:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)
        signal.set_wakeup_fd(-1)
        if self._wakeup:
            self._wakeup.close()  # which ends the thread

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._requested == INT:
            raise KeyboardInterrupt
        self._requested = max(self._requested, SIGNALS[signal.Signals(number)])

    def saved_in(self, seconds: float) -> None:
        """Tell how long a save took: the margin before the wall time follows it."""
        self._longest_save = max(seconds, self._longest_save or 0.0)
        self._last += seconds  # a save is no step

    def margin(self) -> float:
        """Seconds before the end at which to stop: the next step, a save, and as much again for
        bad luck.
        """
        save = self._longest_save
        if save is None:
            whole = (self._end or self._started) - self._started
            save = min(FIRST_SAVE, 0.1 * max(whole, 0.0))
        return LEAST_MARGIN + 2 * (self._longest_step + save)

    def request(self) -> int:
        """This rank's wish as a number, for a collective of the caller's own."""
        now = time.time()
        self._longest_step = max(self._longest_step, now - self._last)
        self._last = now
        if self._requested == GO_ON and self._end is not None and now > self._end - self.margin():
            return WALL_TIME
        return self._requested

    def should_stop(self, ranks: Ranks) -> str | None:
        """Why all ranks stop now, or None; a collective, to be called by every rank once a step."""
        return REASONS.get(ranks.largest(self.request()))
