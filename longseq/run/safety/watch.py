"""A thread beside the training that acts where the main thread cannot: it may wait in C++, for a
rank that will never come.

    watch = Watch(stopper)
    watch.start()                            # before torch is imported: signals, and who started us
    watch.listen(folder, rank, size, 600)    # from here on the ranks watch each other
    watch.at(step=3, phase="step")           # where the training is
    watch.closing(0)                         # the training is over; pages, trackers
    watch.end()

It ends this process, and with it the run, when there is nothing left to wait for: before the first
iteration on SIGTERM, SIGUSR1, SIGHUP or Ctrl-C; on a second Ctrl-C; when a rank has stopped
(--hang-timeout, or seconds after a signal); when whoever started it is gone and the ranks do not
come to a checkpoint; when what comes after the training does not end.
"""

from __future__ import annotations

import _thread
import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from longseq.errors import EXIT_BAD_HOST, EXIT_DONE, EXIT_FAILED, EXIT_STOPPED_EARLY
from longseq.host.atomic_files import reason, replace_file, unwritable
from longseq.reports.runs import END
from longseq.run.safety.abort import report, tell_launcher
from longseq.run.safety.hangs import Listener, Seen, Verdict, find_stopped
from longseq.run.safety.heartbeat import CLOSING, Beat, Heart
from longseq.run.safety.starters import lives, meant, starters, told
from longseq.run.safety.stopping import GO_ON, HUP, INT, ORPHAN, STOP_FILE, TERM, USR1, Stopper
from longseq.run.stdio import leave_code

SIGNALS = {signal.SIGUSR1: USR1, signal.SIGTERM: TERM, signal.SIGINT: INT, signal.SIGHUP: HUP}
EXIT_INTERRUPTED = 130
ONE_PRESS = 0.25  # seconds in which one Ctrl-C may come twice, from a launcher and its group
LAST_WORDS = 2.0  # seconds in which a rank may end by itself after the second Ctrl-C, or put away
HELD = 0.2  # seconds until the main thread is back from C++, where it makes no folders
EVERY = 1.0  # seconds between two looks, and between two beats of a run of up to RANKS
RANKS = 500  # more ranks beat less often, as all their files are on one file system
PATIENCE = 10.0  # seconds without a move, two steps, or three beats, once all are told to stop
ON_DISK = ("save", "load")  # phases in which that does not hold: one flush may take minutes
ORPHANS = 25.0  # seconds that a run without a launcher may take to its checkpoint
AFTERWARDS = 600.0  # seconds that a page, trackers and farewells may take after the training
STOPPED = "stopped-rank.txt"  # in RUN/log: the verdict, for ranks that did not find it themselves


class Watch:
    """The thread, and what the main thread tells it."""

    def __init__(self, stopper: Stopper, environ: Mapping[str, str] = os.environ) -> None:
        self.stopper = stopper
        self._environ, self._signals = environ, list(SIGNALS)
        self._parent, self._starters = os.getppid(), starters(environ)
        self._step, self._phase = 0, "start"
        self._asked_at = self._interrupted_at = self._over_at = self._orphan_at = 0.0
        self._code = EXIT_FAILED
        self._at_once = self._ended = False
        self._folder, self._old_verdict = Path(), 0
        self._heart: Heart | None = None
        self._beat = Beat()
        self._listener: Listener | None = None
        self._timeout, self._every, self._next_look = 0.0, EVERY, 0.0
        self._wakeup: socket.socket | None = None
        self._said = set[int | None]()  # errors of the file system
        self._put_away: Callable[[], None] | None = None
        self._leaving, self._held = False, threading.Event()

    # ------------------------------------------------------------ what the main thread calls

    def start(self) -> None:
        """Take the signals and start the thread; only the main thread may call it."""
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # as nohup has it
            self._signals.remove(signal.SIGHUP)
        for number in self._signals:
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # a deaf launcher's ranks may be deaf
        here, there = socket.socketpair()
        there.setblocking(False)
        signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
        self._wakeup = there
        threading.Thread(target=self._run, args=(here,), daemon=True).start()

    def listen(self, folder: Path, rank: int, size: int, timeout: float) -> None:
        """Beat in `folder`/log, and watch the others: rank 0 all of them, they rank 0."""
        log = folder / "log"
        try:
            log.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(f"{log} cannot be written: {reason(error)}", error) from None
        self._folder, self._timeout = folder, timeout
        self._old_verdict = self._verdict()
        self._every = max(min(EVERY, timeout / 20), EVERY * size / RANKS)
        self._listener = Listener(log, range(1, size) if rank == 0 else [0])
        heart = Heart(log, rank)
        self._beat = heart.beat(0, "start")
        self._heart = heart

    def puts_away(self, act: Callable[[], None]) -> None:
        """What removes what this rank has outside of the run's folder, should it be ended at once;
        called in a thread while the main thread is held, lest that write there again.
        """
        self._put_away = act

    def at(self, step: int, phase: str) -> None:
        """Where the main thread is: in "start", or in a "step", "save", "load" or "validation"."""
        self._step, self._phase = step, phase
        self.stopper.at(phase)

    def closing(self, code: int) -> None:
        """The training is over, for `code`: nobody is blamed for the time that the rest takes."""
        self._code, self._over_at, self._phase = code, time.monotonic(), CLOSING

    def end(self) -> None:
        """The main thread is done: nobody waits for this rank, and signals act as usual."""
        self._ended = True
        if self._heart:
            self._heart.beat(self._step, END)
        for number in self._signals:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)
        signal.set_wakeup_fd(-1)
        if self._wakeup:
            self._wakeup.close()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._leaving:
            self._held.set()
            time.sleep(2 * LAST_WORDS)  # not for ever: it may hold a lock that last words need
        elif self._at_once:  # else the thread acts on it
            raise KeyboardInterrupt

    # ------------------------------------------------------------ the thread

    def _run(self, signals: socket.socket) -> None:
        while not self._ended:
            signals.settimeout(self._every)
            numbers = b""
            with contextlib.suppress(TimeoutError):
                numbers = signals.recv(64)
                if not numbers:
                    return  # the main thread is done
            for number in numbers:
                self._signalled(number)
            self._survive(self._give_a_sign)
            self._survive(self._look_for_stop)
            self._survive(self._look_for_starters)
            if self.stopper.requested != GO_ON:
                self._asked_at = self._asked_at or time.monotonic()
            if time.monotonic() >= self._next_look or self._asked_at:
                self._survive(self._look_at_ranks)

    def _survive(self, part: Callable[[], None]) -> None:
        """Do a part of a look; what fails is said once and comes again with the next.

        A file system that stumbles must not end this thread: nobody else takes signals.
        """
        try:
            part()
        except OSError as error:
            if error.errno not in self._said:
                self._said.add(error.errno)
                said = f"longseq: warning: the watch goes on after: {reason(error)}"
                with contextlib.suppress(OSError, ValueError):
                    print(said, file=sys.stderr, flush=True)

    def _give_a_sign(self) -> None:
        if self._heart:
            self._beat = self._heart.beat(self._step, self._phase)
            if self._heart.error:
                raise self._heart.error

    def _signalled(self, number: int) -> None:
        now = time.monotonic()
        if number == signal.SIGINT:
            if self.stopper.requested == INT and now - self._interrupted_at >= ONE_PRESS:
                self._at_once = True
                _thread.interrupt_main()
                time.sleep(LAST_WORDS)
                self._leave(EXIT_INTERRUPTED)
            self._interrupted_at = now
        if number in SIGNALS:
            sent = signal.Signals(meant(number, self._environ))
            self.stopper.ask(SIGNALS[sent])
            if self._phase == "start" and not self._ended:
                text = f"stopped before the first iteration by {sent.name}"
                self._leave(EXIT_STOPPED_EARLY, text)

    def _look_for_stop(self) -> None:
        if self._heart and (self._folder / "STOP").exists():
            self.stopper.ask(STOP_FILE)

    def _look_for_starters(self) -> None:
        """Are those that started us still there, and was one of them told to stop?"""
        if self.stopper.requested == GO_ON and (number := told(self._starters)):
            self._signalled(number)
        if os.getppid() == self._parent and all(map(lives, self._starters)):
            return
        self.stopper.ask(ORPHAN)
        self._orphan_at = self._orphan_at or time.monotonic()
        if self._phase == "start" or time.monotonic() - self._orphan_at > ORPHANS:
            self._leave(EXIT_STOPPED_EARLY, "whoever started this run is gone")

    def _look_at_ranks(self) -> None:
        """End the run where a rank has stopped; after a call to stop, do not wait for long."""
        if self._listener is None or self._heart is None or self._ended:
            return
        if self._over_at:
            self._look_at_clock()
            return
        if self._verdict() != self._old_verdict:
            time.sleep(LAST_WORDS)  # whoever wrote it tells the launcher
            self._leave(EXIT_BAD_HOST)
        self._next_look = time.monotonic() + self._timeout / 20
        seen = self._listener.listen(self._timeout / 20)
        silence, device = self._patience()
        stuck = silence
        if self._heart.rank:
            stuck = device = math.inf  # who sees rank 0 and itself only cannot tell
        else:
            seen[0] = Seen(self._beat, 0.0)
        if verdict := find_stopped(seen, silence, stuck, device):
            self._condemn(verdict)

    def _look_at_clock(self) -> None:
        """How the run has ended stands, and so does its checkpoint: no page changes that."""
        if time.monotonic() - self._over_at < AFTERWARDS:
            return
        text = f"{AFTERWARDS:.0f} s after the training its page, its trackers or a rank do not end"
        if self._code in (EXIT_DONE, EXIT_STOPPED_EARLY):
            with contextlib.suppress(OSError, ValueError):
                print(f"longseq: warning: {text}", file=sys.stderr, flush=True)
            leave_code(self._code, self._environ)
            self._leave(self._code)
        self._leave(self._code, text)

    def _patience(self) -> tuple[float, float]:
        """Seconds that a rank may be silent, and those that all may wait for their GPUs.

        Fewer once all are told to stop, and not before these are over. A GPU may be at work on a
        whole step that it was given, and nobody knows how long that is before there was one.
        """
        step = self.stopper.longest_step
        silence = self._timeout
        asked = min(silence, max(PATIENCE, 2 * step, 3 * self._every))
        told = self._asked_at and time.monotonic() - self._asked_at >= asked
        if not told or self._phase in ON_DISK:
            return silence, max(silence, step)
        return asked, max(asked, step) if step else silence

    def _verdict(self) -> int:
        """When a verdict was written in this run's folder; 0: there is none."""
        try:
            return (self._folder / "log" / STOPPED).stat().st_mtime_ns
        except OSError:
            return 0

    def _condemn(self, verdict: Verdict) -> None:
        """Say it once for all ranks, and end."""
        with contextlib.suppress(OSError):  # a full disk: others hear of it by the launcher only
            replace_file(self._folder / "log" / STOPPED, verdict.text + "\n")
        code = EXIT_BAD_HOST if verdict.host else EXIT_FAILED
        with contextlib.suppress(OSError):
            report(code, verdict.text, self._environ, verdict.rank, verdict.host)
        self._leave(code)

    def _leave(self, code: int, text: str = "") -> None:
        """End this process at once, whatever its main thread does."""
        try:
            if text:
                report(code, f"longseq: {text}", self._environ)
            self._remove_own()  # before the launcher ends all
            tell_launcher(code, self._environ)
        finally:  # also where the terminal or the log is gone
            os._exit(code)

    def _remove_own(self) -> None:
        """Put away what this rank has, if anything; a disk that hangs holds nobody for long."""
        if self._put_away is None:
            return
        self._leaving = True
        _thread.interrupt_main(signal.SIGTERM)
        self._held.wait(HELD)
        removing = threading.Thread(target=self._put_away, daemon=True)
        removing.start()
        removing.join(LAST_WORDS)
