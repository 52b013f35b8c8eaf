"""The files that a verb is to write, looked at before any work, and all of them together.

check_outputs(options.run, options.files, Output("--output", options.output, (".npy",)))
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from longseq.data.written import check_no_data, check_written, files_of
from longseq.errors import UserError
from longseq.reports.runs import run_of

OF_A_RUN = ("held_out.tsv", "summary.json", "environment.json", "ds_config.json")  # as ours end


@dataclass(frozen=True)
class Output:
    """What a flag names, if it was given, and how that may end. beside: files that come with it."""

    flag: str
    path: Path | None
    suffixes: Sequence[str]
    beside: Sequence[Path] = ()


def check_outputs(run: Path, read: Iterable[str], *outputs: Output) -> None:
    """Refuse a name that cannot become a file of one of the formats, and one of a file that would
    be lost: of the verb's inputs, which are `read`, of the run, of prepared data, or of another
    output.
    """
    given = {one.flag: (one.path, one) for one in outputs if one.path is not None}
    for flag, (path, one) in given.items():
        _check_place(f"{flag} {path}", path, one.suffixes)
    if not given:
        return
    kept: dict[str, Sequence[Path]] = {"is an input": files_of(read), "is RUN's": _records_of(run)}
    for flag, (path, one) in given.items():
        written = [path, *one.beside]
        check_written(f"{flag} {path}", written, kept)
        check_no_data(f"{flag} {path}", written)
        _check_outside(f"{flag} {path}", path, run)
        kept[f"{flag} writes"] = written


def _check_place(given: str, path: Path, suffixes: Sequence[str]) -> None:
    """Whether there can be a file of this name."""
    if path.suffix not in suffixes:
        raise UserError(f"{given}: end it in one of {', '.join(suffixes)}")
    if path.exists() and not path.is_file():
        raise UserError(f"{given} is there and is no file: name another")
    if not path.parent.is_dir():
        raise UserError(f"{given}: there is no folder {path.parent}: make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"{given}: you may not write to the folder {path.parent}: name another")


def _records_of(run: Path) -> list[Path]:
    """What a run's folder says of the run."""
    folder = run if (run / "checkpoints").is_dir() else run_of(run)
    return [folder / name for name in OF_A_RUN] if folder else []


def _check_outside(given: str, path: Path, run: Path) -> None:
    """A checkpoint goes with all that is in its folder, once there are newer ones."""
    inner = run / "checkpoints"
    checkpoints = inner if inner.is_dir() else run
    if path.resolve().is_relative_to(checkpoints.resolve()):
        raise UserError(f"{given} is among the files of the checkpoint {checkpoints}: name another")
