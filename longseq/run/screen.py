"""What the user sees of a run, and the log files behind it.

On a terminal rank 0 shows one line that is written again and again (bar, count, time left, the
figures that there is room for), and above it lines that stay: some LASTING of the iterations, every
validation, checkpoint and warning. None is wider than the screen. Elsewhere (a job's output file)
there is one plain line every `log_interval` iterations, without control characters. Under mpiexec a
rank's output is never a terminal, so the launcher says so in LONGSEQ_TERMINAL (the width in
columns). Everything also goes to RUN/log/rankN.log through `logging`.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from longseq.errors import EXIT_FAILED
from longseq.host.atomic_files import reason, unwritable
from longseq.reports.format import duration, short
from longseq.run.safety.abort import report, tell_launcher

logger = logging.getLogger("longseq")
EXIT_INTERRUPTED = 128 + signal.SIGINT
LASTING = 20  # iterations of a run whose lines stay on a terminal
BAR = 16

Rows = Iterable[tuple[str, object]]


class _LogFile(logging.FileHandler):
    """Says once that it cannot write, in place of a traceback a line."""

    failed = False

    def handleError(self, _record: logging.LogRecord) -> None:
        if not self.failed:
            self.failed = True
            text = f"warning: {self.baseFilename}: {sys.exc_info()[1]}"
            with contextlib.suppress(OSError):  # a rank's standard error is on the same disk
                print(text, file=sys.stderr, flush=True)


def open_log(folder: Path, rank: int) -> None:
    """Send all logging of this rank, warnings and uncaught exceptions to folder/log/rankN.log.

    The libraries' own chatter goes there as well, off the screen (DeepSpeed's once start_deepspeed
    has run). An uncaught exception also ends the other ranks.
    """
    path = folder / "log" / f"rank{rank}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise unwritable(f"{path} cannot be written: {reason(error)}", error) from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _log_exception


def _log_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):  # the second Ctrl-C; its traceback says nothing
        logger.critical("interrupted on %s", socket.gethostname())
        tell_launcher(EXIT_INTERRUPTED)
        return
    logger.critical("failed on %s", socket.gethostname(), exc_info=(kind, error, trace))
    report(EXIT_FAILED, "".join(traceback.format_exception(kind, error, trace)))
    tell_launcher(EXIT_FAILED)


def terminal_width(environ: Mapping[str, str] = os.environ) -> int | None:
    """Columns of the user's terminal, or None where the output goes to a file or pipe."""
    columns = environ.get("LONGSEQ_TERMINAL", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    return os.get_terminal_size(1).columns or 80 if sys.stdout.isatty() else None


class Screen:
    """Rank 0's screen. On other ranks every method only writes to the log."""

    def __init__(
        self,
        *,
        rank: int,
        total: int,
        start: int = 0,
        log_interval: int = 1,
        width: int | None = None,
        file: TextIO | None = None,
    ) -> None:
        """`total` iterations, of which `start` are done; `width` of the terminal, None for plain
        lines; `file` to write to, None for whatever is standard output at that time.
        """
        self._shown = rank == 0
        self._log_interval = log_interval
        self._total, self._start = total, start
        self._began = time.monotonic()
        self._console = Console(
            force_terminal=width is not None,
            no_color=width is None,
            width=width or 100,
            highlight=False,
            file=file,
        )
        self._width = width
        self._lasting = max(log_interval, lasting_interval(total - start))
        self._live: Live | None = None

    def opening(self, title: str, rows: Rows) -> None:
        """Show what is about to run, as a short table of (name, value)."""
        self._table(title, rows)
        if self._shown and self._width:
            first = Text(f"{self._start}/{self._total}")
            # By hand: a rank that computes leaves a thread little to run in
            self._live = Live(first, console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def closing(self, title: str, rows: Rows) -> None:
        """Show how the run ended; takes the updating line away."""
        self.close()
        self._table(title, rows)

    def iteration(self, record: Mapping[str, Any]) -> None:
        """Show one record of metrics.jsonl: on the updating line, and to stay where it is due, is
        the last, or has a validation.
        """
        number = record["iteration"]
        told, left = figures(record), f"{self._left(number)} left"
        remarkable = number >= self._total or record.get("validation_loss") is not None
        count = f"iteration {number}/{self._total}"
        if remarkable or number % self._log_interval == 0:
            line = " | ".join([count, *told, left])
            logger.info("%s", line)
            if not self._width:
                self._say(line)
        if not self._live or not self._width:
            return
        if remarkable or number % self._lasting == 0:
            self._say(" | ".join(fitting([count, *told], self._width, 3)))
        done = round(BAR * number / self._total)
        bar = "━" * done + "╌" * (BAR - done)
        parts = [bar, f"{number}/{self._total}", left, *told]
        self._live.update(Text("  ".join(fitting(parts, self._width - 1, 2))), refresh=True)

    def note(self, text: str) -> None:
        """Say one sentence."""
        logger.info("%s", text)
        self._say(text)

    def warn(self, text: str) -> None:
        """Say one sentence that wants attention."""
        logger.warning("%s", text)
        self._say(f"warning: {text}")

    def close(self) -> None:
        """End the updating line and give the terminal back; safe to call twice."""
        if self._live:
            self._live.stop()
            self._live = None

    def _left(self, number: int) -> str:
        done = number - self._start
        if done <= 0:
            return "?"
        return duration((time.monotonic() - self._began) / done * (self._total - number))

    def _say(self, text: str) -> None:
        if self._shown:
            self._console.print(text, markup=False, soft_wrap=self._width is None)

    def _table(self, title: str, rows: Rows) -> None:
        lines = [(name, str(value)) for name, value in rows]
        logger.info("%s", title)
        for name, value in lines:
            logger.info("  %s: %s", name, value)
        if not self._shown:
            return
        self._console.print(title, style="bold", markup=False)
        width = max((len(name) for name, _ in lines), default=0)
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in lines:
            if not self._width:
                self._say(f"  {name:<{width}}  {value}")
            grid.add_row(Text(f"  {name}"), Text(value))
        if self._width:
            self._console.print(grid)


def lasting_interval(iterations: int) -> int:
    """1, 2, 5, 10, … such that about LASTING lines of so many iterations stay."""
    step = 1
    while iterations > LASTING * step:
        step = step * 5 // 2 if str(step).startswith("2") else step * 2
    return step


def fitting(parts: Sequence[str], width: int, gap: int) -> list[str]:
    """Those of `parts` that `width` columns hold with `gap` columns between, the first ones first;
    what is too long leaves room for what is shorter.
    """
    found: list[str] = []
    room = width + gap
    for part in parts:
        if len(part) + gap <= room:
            found.append(part)
            room -= len(part) + gap
    return found


def figures(record: Mapping[str, Any]) -> list[str]:
    """The figures of a record that the screen has room for, each with its unit."""
    shown = (
        ("lm_loss", "loss {:.4f}"),
        ("validation_loss", "validation {:.4f}"),
        ("grad_norm", "grad norm {:.3g}"),
        ("learning_rate", "lr {:.3g}"),
        ("iteration_time", "{:.2f} s"),
    )
    texts = [form.format(record[key]) for key, form in shown if record.get(key) is not None]
    if record.get("tokens_per_sec") is not None:
        texts.append(f"{short(record['tokens_per_sec'])} tokens/s")
    if record.get("tflops") is not None:
        model = record.get("model_tflops")
        texts.append(
            f"{record['tflops']:.3g} TFLOPS"
            + (f" ({model:.3g} model)" if model is not None else "")
        )
    if record.get("peak_memory_gib") is not None:
        texts.append(f"{record['peak_memory_gib']:.2f} GiB")
    return texts


def warn_early(text: str) -> None:
    """Say what is wrong before there is a screen: on the terminal and in the log."""
    logger.warning("%s", text)
    print(f"longseq: warning: {text}", file=sys.stderr, flush=True)
