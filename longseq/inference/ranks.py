"""A verb on one rank or several: how it starts, how it ends, what a mistake does.

    return on_ranks(computing, look, work)    # look(ranks) → asked; work(asked, device, ranks)

`look` finds all that can be refused before anything is computed, and needs no torch, which takes
seconds to load.
Started alone a verb is one rank. Started by a launcher through ALCF/rank.sh it is one of several,
with the numbers that a training's ranks get: `./ALCF/use.sh`, or by hand

    mpiexec -n 2 sh ALCF/rank.sh python -m longseq score RUN genome.fa --ds-sequence-parallel-size 2
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TypeVar

from longseq.config.arguments import Config, Data, Layout, Memory, Network, Run, Training
from longseq.errors import EXIT_DONE, EXIT_FAILED, EXIT_NO_ROOM, EXIT_STOPPED_EARLY, UserError
from longseq.host.atomic_files import NO_ROOM, reason
from longseq.inference.flags import Computing
from longseq.parallel.agreement import Ranks, torch_ranks
from longseq.run.safety.abort import report, tell_launcher
from longseq.run.safety.starters import lives, starters, told

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Look = Callable[[Ranks], T]
Work = Callable[[T, "torch.device", Ranks], None]
EXIT_TERMINATED = 143
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def world_size() -> int:
    """How many ranks there are, before any of them has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def on_ranks(computing: Computing, look: Look[T], work: Work[T]) -> int:
    """Look, then work, on every rank; the exit code. Alone, an error is the caller's to show.

    With --dry-run only look, as the first of the ranks that ALCF/submit.sh names.
    """
    if computing.dry_run:
        look(Ranks(0, int(os.environ.get("LONGSEQ_RANKS") or world_size())))
        return EXIT_DONE
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
    with _stopped_by_signals():
        try:
            ended = _end_of(computing, look, work)
        except _Stopped as stopped:  # what was written aside is gone by now
            if _alone():
                return 128 + stopped.number
            ended = EXIT_STOPPED_EARLY, "longseq: stopped before it was done: nothing is written"
        if ended:
            _end(*ended)
    return EXIT_DONE


def _alone() -> bool:
    """Whether no launcher started it."""
    return "RANK" not in os.environ


def _end_of(computing: Computing, look: Look[T], work: Work[T]) -> tuple[int, str] | None:
    """Exit code and words where it failed as a rank."""
    try:
        if world_size() > 1:
            _together(computing, look, work)
        else:
            asked = look(Ranks())
            work(asked, _device(computing), Ranks())
    except Exception as error:
        if _alone():
            raise
        if isinstance(error, UserError):
            return error.exit_code, f"longseq: {error}"
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return EXIT_NO_ROOM, f"longseq: {error.filename or 'standard output'}: {reason(error)}"
        return EXIT_FAILED, traceback.format_exc()
    return None


def _together(computing: Computing, look: Look[T], work: Work[T]) -> None:
    from longseq.engine.distributed import start_distributed, stop_distributed

    device = _device(computing)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))  # as in watch.py
    threading.Thread(target=_end_with_starters, daemon=True).start()
    start_distributed(device)
    ranks = torch_ranks()
    work(look(ranks), device, ranks)
    stop_distributed()


def warner(ranks: Ranks) -> Callable[[str], None]:
    """What says a warning once, on rank 0."""

    def warn(text: str) -> None:
        if ranks.rank == 0:
            print(f"longseq: warning: {text}", file=sys.stderr)

    return warn


def _device(computing: Computing) -> torch.device:
    from longseq.engine.distributed import pick_device

    training = Training(device=computing.device, bf16=computing.bf16)
    return pick_device(Config(Network(), Layout(), Memory(), training, Data(), Run()))


def _end_with_starters() -> None:
    """End this rank where whoever started it is gone: nobody waits for what it finds. What was told
    to stop and cannot hear it, this rank hears.
    """
    found, number = starters(os.environ), None
    while all(map(lives, found)):
        if number is None and (number := told(found)):
            os.kill(os.getpid(), number)
        time.sleep(1)
    os._exit(EXIT_TERMINATED)


class _Stopped(BaseException):
    """A signal told it to end; what is open is closed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Signals raise _Stopped, unless whoever started it wanted it deaf to them (nohup)."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    heard = [number for number in STOPPING if before[number] != signal.SIG_IGN]

    def stop(number: int, _frame: FrameType | None) -> None:
        for one in heard:  # a launcher may send several; a second Ctrl-C ends at once
            signal.signal(one, signal.SIG_DFL if one == signal.SIGINT else signal.SIG_IGN)
        raise _Stopped(number)

    for number in heard:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def _end(code: int, text: str) -> NoReturn:
    """End this rank and all others: one that fails must not let them wait."""
    if code != EXIT_FAILED and os.environ["RANK"] != "0":
        time.sleep(2)  # rank 0 has mostly met the same, and one line is enough
    report(code, text)
    tell_launcher(code)
    with suppress(OSError):  # a full disk may be why it ends
        sys.stdout.flush()
    os._exit(code)
