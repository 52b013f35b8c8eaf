"""`longseq status`, `ALCF/status.sh`: all jobs, chains and runs in a folder, a few lines each.

Standard library only: it runs on a login node, with whatever Python is there.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from longseq.config.flags import Parser
from longseq.errors import EXIT_DONE, UserError
from longseq.host.scheduler import Asked, ask
from longseq.reports.format import no_number
from longseq.reports.live.jobs import SETTINGS, Job, read_job
from longseq.reports.live.watch import cut, look_at_run, loss, print_lines, progress
from longseq.reports.runs import RUNNING, SUMMARY

NEWEST = 10
OUTPUTS = Path(__file__).parents[3] / "outputs"  # beside the scripts, wherever one works


def add_arguments(parser: Parser) -> None:
    """The folder, and how much of it."""
    parser.add_argument(
        "outputs",
        nargs="?",
        type=Path,
        metavar="FOLDER",
        help="parent of the runs (OUTPUT_DIR, else outputs/)",
    )
    parser.add_argument("--all", action="store_true", help=f"not the newest {NEWEST} of each alone")
    parser.set_defaults(run_verb=show)


def show(options: argparse.Namespace) -> int:
    """Print it at the terminal's width. Where none is named, train-gpt3.sh's own folder need not be
    there yet.
    """
    told = os.environ.get("OUTPUT_DIR", "")
    folder: Path = options.outputs or Path(told or OUTPUTS)
    if not folder.is_dir() and (options.outputs or told or folder.exists()):
        raise UserError(f"{folder}: no such folder: name the parent of the runs (OUTPUT_DIR)")
    width = shutil.get_terminal_size().columns
    print_lines([cut(line, width) for line in status(folder, None if options.all else NEWEST)])
    return EXIT_DONE


def status(folder: Path, most: int | None) -> list[str]:
    """The lines: jobs, then the runs that are of none; the newest last, at most so many of each."""
    jobs = [read_job(path) for path in _newest(folder / "jobs", SETTINGS)]
    of_jobs = {run.resolve() for job in jobs for run in job.runs}
    runs = [path for path in _newest(folder, "log") if path.resolve() not in of_jobs]
    if not jobs and not runs:
        return [f"no job and no run yet in {folder}"]
    shown, few = (jobs, runs) if most is None else (jobs[-most:], runs[-most:])
    asked = ask([n for job in shown if not job.stopped for n in job.numbers]) if shown else Asked()
    lines: list[str] = []
    for job in shown:
        lines += _job_lines(job, asked)
    for run in few:
        lines += [run.name, *_run_lines(run, "  ")]
    hidden = len(jobs) + len(runs) - len(shown) - len(few)
    lines += [f"{hidden} older ones are not shown (--all)"] if hidden else []
    return lines + ([asked.trouble] if asked.trouble else [])


def _job_lines(job: Job, asked: Asked) -> list[str]:
    count = len(job.numbers)
    lines = [f"jobs/{job.folder.name}" + (f", a chain of {count}" if count > 1 else "")]
    live = [(number, asked.of(number)) for number in job.numbers]
    lines += [f"  {number}  {said}" for number, said in live if said]
    if job.stopped:
        lines.append(f"  ended: {job.stopped}")
    elif not any(said for _, said in live):
        unknown = "; whether it waits is not known" if asked.trouble else ""
        lines.append(f"  {'not in the queue any more' if not unknown else 'submitted'}{unknown}")
    if job.bad:
        lines.append(f"  at fault: {', '.join(job.bad)}")
    if job.runs:
        runs = any(said.startswith("running") for _, said in live)
        known = runs or not asked.trouble
        lines += [
            f"  {job.runs[-1].name}",
            *_run_lines(job.runs[-1], "    ", runs if known else None),
        ]
        if len(job.runs) > 1:
            lines.append(f"    goes on from {len(job.runs) - 1} before it")
    return lines


def _run_lines(run: Path, blanks: str, live: bool | None = None) -> list[str]:
    """How far a run is; live: whether a job of it runs now, where that is known."""
    if not run.is_dir():
        return [blanks + "its folder is gone"]
    try:
        seen = look_at_run(run, [])
    except OSError as error:
        return [f"{blanks}cannot be read: {error.strerror}"]
    if live is False and seen.summary.get("status") == RUNNING:
        seen = replace(seen, summary=seen.summary | {"status": "ended, and has not said how"})
    damaged = (run / SUMMARY).exists() and not seen.summary
    said = "summary.json is damaged" if damaged else str(seen.summary.get("status", "not begun"))
    if not seen.records:
        return [f"{blanks}{said}: no iteration yet"]
    text, quiet = progress(seen)
    if damaged:
        text = f"{seen.records[-1]['iteration']}/?  {said}"
    mean = loss(seen)
    lines = [text, *([quiet] if quiet else [])]
    return [
        *(blanks + line for line in lines),
        *([f"{blanks}loss {mean}"] if mean else []),
        *(f"{blanks}loss: {text}" for text in no_number(seen.records, seen.whole)),
    ]


def _newest(folder: Path, mark: str) -> list[Path]:
    """Folders below that hold `mark`, the one that was changed last at the end."""
    try:
        found: Sequence[Path] = [path for path in folder.iterdir() if (path / mark).exists()]
    except OSError:
        return []
    return sorted(found, key=lambda path: (path / mark).stat().st_mtime)
