"""The folder that holds everything about one run, made so that two jobs can never share it.

    folder = claim_run_folder(Path("outputs/GPT_SMALL_tp2_s512_seed1234_20261125-101112_77"))
    write_command(folder, command, os.environ)

Standard library only: it runs before any rank starts, where torch need not be importable.
"""

import errno
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from longseq.errors import FullDisk, UserError
from longseq.host.atomic_files import NO_FILE_MORE, no_file_more, reason, replace_file, unwritable
from longseq.host.variables import REPEAT, read_table
from longseq.run.wandb_sink import wandb_mode

SUBFOLDERS = ("log", "checkpoints", "tensorboard", "wandb")
LEAST_ROOM = 1 << 22  # bytes: with less not even logs, records and the report would be whole
REMEDY = "free some, or set OUTPUT_DIR to a folder with room that you can write to"
ELSEWHERE = "set OUTPUT_DIR to a folder that you can write to"  # nothing to free helps


def claim_run_folder(folder: Path, files: Mapping[str, str] | None = None) -> Path:
    """Make exactly `folder`, with `files` in it, whole or not at all; raises UserError where
    another run has it or it cannot be made, FullDisk where there is no room.
    """
    parent = folder.absolute().parent
    disabled = wandb_mode() == "disabled"
    subfolders = [sub for sub in SUBFOLDERS if sub != "wandb" or not disabled]
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _look_for_room(parent)
    except OSError as error:  # FileExistsError too: the parent is a file
        raise _unusable(parent, error) from None
    try:
        folder.mkdir()
    except FileExistsError:
        raise UserError(
            f"--run-dir {folder} exists: a run never writes into another's folder"
        ) from None
    except OSError as error:
        raise _unusable(parent, error) from None
    try:
        for sub in subfolders:
            (folder / sub).mkdir()
        for name, text in (files or {}).items():
            replace_file(folder / name, text)
    except OSError as error:
        told = _unusable(parent, error)  # before there is room again
        shutil.rmtree(folder, ignore_errors=True)
        raise told from None
    return folder.absolute()


def _look_for_room(parent: Path) -> None:
    """Of a quota the file system may say nothing; then the first file that finds no room does."""
    disk = os.statvfs(parent)
    if no_file_more(parent):
        raise FullDisk(f"the run's folder cannot be made in {parent}: {NO_FILE_MORE}; {REMEDY}")
    if disk.f_blocks and disk.f_bavail * disk.f_frsize < LEAST_ROOM:
        raise FullDisk(
            f"the run's folder cannot be made in {parent}: less than {LEAST_ROOM >> 20} MiB are"
            f" free; {REMEDY}"
        )


def _unusable(parent: Path, error: OSError) -> UserError:
    text = f"the run's folder cannot be made in {parent}: {reason(error)}; {_remedy(error)}"
    return unwritable(text, error)


def _remedy(error: OSError) -> str:
    return ELSEWHERE if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) else REMEDY


@contextmanager
def told_if_full(place: Path) -> Iterator[None]:
    """One line in place of a traceback where the run's folder or a file in it cannot be written."""
    try:
        yield
    except OSError as error:
        text = f"{place} cannot be written: {reason(error)}; {_remedy(error)}"
        raise unwritable(text, error) from None


def write_command(
    folder: Path,
    command: Sequence[str],
    environ: Mapping[str, str] = os.environ,
    directory: Path | None = None,
) -> Path:
    """Write `folder/command.sh`, which repeats `command` with the variables that it depended on."""
    lines = [
        "#!/usr/bin/env bash",
        "# Repeats this run: the variables it depended on, and its command.",
        f"cd {shlex.quote(str(directory or Path.cwd()))} || exit",
        *read_table().keep(environ, REPEAT).lines(),
        "exec " + shlex.join(command),
    ]
    return write_file(folder / "command.sh", "\n".join(lines) + "\n", 0o755)


def write_file(path: Path, text: str, mode: int = 0o644) -> Path:
    """Put `text` whole at `path`; raises UserError where that cannot be."""
    with told_if_full(path):
        replace_file(path, text, mode)
    return path
