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
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

from longseq.config.arguments import Config, Data, Layout, Memory, Network, Run, Training
from longseq.errors import EXIT_DONE, EXIT_FAILED, EXIT_USER_ERROR, UserError
from longseq.inference.flags import Computing
from longseq.parallel.agreement import Ranks, torch_ranks
from longseq.run.safety.abort import report, tell_launcher
from longseq.run.safety.starters import lives, starters

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Look = Callable[[Ranks], T]
Work = Callable[[T, "torch.device", Ranks], None]
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143


def world_size() -> int:
    """How many ranks there are, before any of them has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def on_ranks(computing: Computing, look: Look[T], work: Work[T]) -> int:
    """Look, then work, on every rank; the exit code. Alone, a UserError is the caller's to show.

    With --dry-run only look, as the first of the ranks that ALCF/submit.sh names.
    """
    if computing.dry_run:
        look(Ranks(0, int(os.environ.get("LONGSEQ_RANKS") or world_size())))
        return EXIT_DONE
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
    signal.signal(signal.SIGTERM, _terminated)  # what is written aside goes with us
    try:
        if world_size() == 1:
            asked = look(Ranks())
            work(asked, _device(computing), Ranks())
        else:
            _together(computing, look, work)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except UserError as error:
        if world_size() == 1:
            raise
        if os.environ["RANK"] != "0":
            time.sleep(2)  # rank 0 has mostly met the same mistake, and one line is enough
        _end(EXIT_USER_ERROR, f"longseq: {error}")
    except Exception:
        if world_size() == 1:
            raise
        _end(EXIT_FAILED, traceback.format_exc())
    return EXIT_DONE


def _together(computing: Computing, look: Look[T], work: Work[T]) -> None:
    from longseq.engine.distributed import start_distributed, stop_distributed

    device = _device(computing)
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
    """End this rank where whoever started it is gone: nobody waits for what it finds."""
    found = starters(os.environ)
    while all(map(lives, found)):
        time.sleep(1)
    os._exit(EXIT_TERMINATED)


def _terminated(_number: int, _frame: FrameType | None) -> None:
    sys.exit(EXIT_TERMINATED)


def _end(code: int, text: str) -> None:
    """End this rank and all others: one that fails must not let them wait."""
    report(code, text)
    tell_launcher(code)
    sys.stdout.flush()
    os._exit(code)
