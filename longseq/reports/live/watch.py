"""`longseq watch RUN`: a run or a job as it goes, from its files alone, as from a login node.

longseq watch outputs/RUN             until it has ended
longseq watch outputs/jobs/JOB        the newest run of a chain, and its jobs in the queue
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from longseq.config.flags import Parser
from longseq.errors import EXIT_DONE, UserError
from longseq.host.scheduler import ask, is_here
from longseq.reports.format import duration, no_number, number, short
from longseq.reports.live.jobs import SETTINGS, read_job
from longseq.reports.plots import thin
from longseq.reports.runs import (
    LAST,
    RUNNING,
    finite,
    losses_before,
    nested,
    parse_record,
    printable,
    read_json,
    read_summary,
    recent,
)

TAIL = 1 << 20  # bytes of metrics.jsonl and of a log that are read each time: some 2,000 records
PLACES = 60  # of a longer file at which its losses are looked at: as many as a line has blocks
WARNINGS = 3
QUIET = 120.0  # seconds without a record, beyond ten iterations, that are worth a word
BLOCKS = "▁▂▃▄▅▆▇█"
BAR = 24


def add_arguments(parser: Parser) -> None:
    """The run, and how often."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run, or of a job")
    parser.add_argument("--every", default="5", metavar="SECONDS", help="between looks (5)")
    parser.add_argument("--once", action="store_true", help="one look, then end")
    parser.set_defaults(run_verb=watch)


def watch(options: argparse.Namespace) -> int:
    """Show the run until it has ended, or once where nothing is a terminal."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    try:
        every = float(options.every)
    except ValueError:
        every = 0.0
    if not 1 <= every <= 3600:
        raise UserError(f"--every {options.every!r}: give 1 to 3600 seconds")
    console = Console(highlight=False)
    seen = look(options.run)
    if options.once or not sys.stdout.isatty():
        print_lines(frame(seen, shutil.get_terminal_size().columns))
        return EXIT_DONE
    with Live(console=console, auto_refresh=False) as live, contextlib.suppress(KeyboardInterrupt):
        while True:
            lines = [shown(line, console.encoding) for line in frame(seen, console.width)]
            live.update(Text("\n".join(lines)), refresh=True)
            if seen.ended:
                break
            time.sleep(every)
            seen = look(options.run)
    return EXIT_DONE


@dataclass(frozen=True)
class Seen:
    """What a look found. records: the last ones of metrics.jsonl, whole: they are all; course:
    losses from the first on, where they are not all; queue: a line a job.
    """

    name: str
    summary: dict[str, Any]
    records: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    queue: list[str] = field(default_factory=list)
    silent: float = 0.0  # seconds since the last record; below 0 it is dated ahead of this clock
    whole: bool = True
    course: list[float] = field(default_factory=list)

    @property
    def total(self) -> int:
        total = nested(self.summary, "settings", "training", "train_iters")
        return max(0, int(total)) if finite(total) else 0

    @property
    def ended(self) -> bool:
        return bool(self.summary) and self.summary.get("status") != RUNNING


def look(folder: Path) -> Seen:
    """Read a run's folder, or a job's; raises UserError where neither is there."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: name that of a run, or of a job")
    run = folder
    if (folder / SETTINGS).is_file():
        job = read_job(folder)
        jobs = job.numbers
        if not job.runs:
            return Seen(folder.name, {}, queue=_queue(jobs))
        run = job.runs[-1]
        if not run.is_dir():
            raise UserError(
                f"{run}: this run, the job's newest, is gone: ./longseq.sh status shows its jobs"
            )
    elif not (run / "log").is_dir():
        raise UserError(f"{folder} is no run's folder: it has no log/")
    else:
        number = str(read_json(run / "environment.json").get("job", ""))
        jobs = [number] if number.isdecimal() else []
    return replace(look_at_run(run, _queue(jobs)), course=_course(run / "metrics.jsonl"))


def look_at_run(run: Path, queue: list[str]) -> Seen:
    """Read a run's folder; `queue` is a line for each of its jobs."""
    path = run / "metrics.jsonl"
    records = [record for line in _tail(path) if (record := parse_record(line))]
    log = _tail(run / "log" / "rank0.log")
    warnings = [_said(line) for line in log if " WARNING " in line or " CRITICAL " in line]
    now = path.stat() if path.exists() else None
    silent = time.time() - now.st_mtime if now else 0.0
    whole = now is None or now.st_size <= TAIL
    return Seen(run.name, read_summary(run), records, warnings[-WARNINGS:], queue, silent, whole)


def _said(line: str) -> str:
    """`2026-11-26 00:45:10,123 WARNING longseq: text` without the date and the name."""
    _, _, text = line.partition(": ")
    return f"{line[11:19]} {text}"


def _tail(path: Path) -> list[str]:
    """The last lines of a file, the first of them whole."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return lines[1:] if size > TAIL else lines


def _course(path: Path) -> list[float]:
    """Of a file longer than TAIL the losses at some places, each the mean of a few iterations."""
    piece, found = TAIL // PLACES, []
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            for place in range(PLACES if size > TAIL else 0):
                file.seek(place * (size - piece) // (PLACES - 1))
                lines = file.read(piece).decode("utf-8", "replace").splitlines()[1:-1]
                losses = _known([r for line in lines if (r := parse_record(line))], "lm_loss")
                found += [statistics.fmean(losses)] if losses else []
    except OSError:
        return []
    return found


def _queue(jobs: Sequence[str]) -> list[str]:
    """What the scheduler says of each job, a line each; nothing where there is none to ask."""
    if not jobs or not is_here():
        return []
    asked = ask(jobs)
    known = [f"{job}  {said}" for job in jobs if (said := asked.of(job))]
    return known or [asked.trouble or "in the queue no more"]


def frame(seen: Seen, width: int) -> list[str]:
    """What is shown, lines of at most `width` columns."""
    lines = [seen.name]
    lines += [f"queue     {line}" for line in seen.queue]
    status = seen.summary.get("status", "has not begun")
    if not seen.records:
        lines.append(f"{status}: no iteration yet")
    else:
        lines += _progress(seen, width)
    lines += [f"warning   {text}" for text in seen.warnings]
    if reason := seen.summary.get("reason"):  # whole: it is what one looks for
        lines += _wrapped("why", reason, width)
    return [cut(line, width) for line in lines]


def cut(line: str, width: int) -> str:
    """At most `width` columns of a line."""
    return line if len(line) <= width else line[: width - 1] + "…"


def print_lines(lines: Sequence[str]) -> None:
    """Print them, whatever files have put into them and whatever standard output takes."""
    print("\n".join(shown(line, sys.stdout.encoding or "utf-8") for line in lines))


def shown(line: str, encoding: str) -> str:
    """The line with ? for what moves a terminal's cursor, or has no place in its encoding."""
    return printable(line).encode(encoding, "replace").decode(encoding)


def _wrapped(name: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(f"{name:<10}{text}", max(width, 20), subsequent_indent=" " * 10)


def progress(seen: Seen) -> tuple[str, str]:
    """Iteration, status and time left of a run that has a record; for how long it has said nothing,
    or that its dates cannot tell, or "".
    """
    status, total, at = seen.summary.get("status"), seen.total, seen.records[-1]["iteration"]
    times = _known(seen.records[-20:], "iteration_time")
    pace = statistics.median(times) if times else 0.0
    quiet = ""
    if status == RUNNING and seen.silent > QUIET + 10 * pace:
        quiet = f"nothing new for {duration(seen.silent)}: ended or hung"
    elif status == RUNNING and seen.silent < -QUIET:
        quiet = f"dated {duration(-seen.silent)} ahead of this clock: running, ended or hung"
    text = f"{at}/{total or '?'}  {status or 'has not begun'}"
    left = pace * max(0, total - at)
    if status == RUNNING and pace and total and not quiet and finite(left):
        text += f", {duration(left)} left"
    return text, quiet


def _progress(seen: Seen, width: int) -> list[str]:
    last, total = seen.records[-1], seen.total
    done = round(BAR * min(1.0, last["iteration"] / total)) if total else 0
    text, quiet = progress(seen)
    line = f"{'━' * done}{'╌' * (BAR - done)}  {text}"
    losses, valid = _known(seen.records, "lm_loss"), _known(seen.records, "validation_loss")
    speed = last.get("tokens_per_sec")
    figures = [
        f"{number(last.get('iteration_time'), '{:.3g}')} s",
        f"{short(speed if finite(speed) else None)} tokens/s",
        f"{number(last.get('tflops'), '{:.3g}')} TFLOPS",
        f"{number(last.get('peak_memory_gib'), '{:.2f}')} GiB",
    ]
    lines = [line]
    if quiet:
        lines.append(f"          {quiet}")
    lines.append(f"last step {'  '.join(figures)}")
    if told := loss(seen):
        text = f"loss      {told}"
        text += f"  validation {valid[-1]:.4f}" if valid else ""
        room = max(0, min(PLACES, width - len(text) - 2))
        lines.append(f"{text}  {sparkline(seen.course or losses, room)}")
    for text in no_number(seen.records, seen.whole):
        lines += _wrapped("loss", text, width)
    return lines


def loss(seen: Seen) -> str:
    """The training loss as everything tells it (`recent`: one batch's says little), or ""."""
    own = _known(seen.records, "lm_loss")
    newest = recent(own)
    if own and len(newest) < LAST:
        newest = recent([*_before(seen), *own])
    return f"{statistics.fmean(newest):.4f}, mean of {len(newest)}" if newest else ""


def _before(seen: Seen) -> Sequence[float]:
    """Losses of the runs before this one, if all of its own were read."""
    if not seen.whole:
        return ()
    load = str(nested(seen.summary, "settings", "run", "load") or "")
    return losses_before(load, str(seen.summary.get("directory", "")), seen.records[0]["iteration"])


def _known(records: Sequence[dict[str, Any]], key: str) -> list[float]:
    """The values of a metric that are numbers; of a spike it may be none."""
    return [float(value) for record in records if finite(value := record.get(key))]


def sparkline(values: Sequence[float], width: int) -> str:
    """The values as at most `width` blocks, the highest one the greatest."""
    if not width or not values:
        return ""
    means = thin(range(len(values)), values, width)[1]
    low, high = min(means), max(means)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] for value in means)
