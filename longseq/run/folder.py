"""The folder that holds everything about one run, made so that two jobs can never share it.

    folder = claim_run_folder(Path("outputs/GPT_SMALL_tp2_s512_seed1234_20261125-101112_77"))
    write_command(folder, command, os.environ)

Standard library only: it runs before any rank starts, where torch need not be importable.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from longseq.errors import UserError
from longseq.host.atomic_files import reason, replace_file
from longseq.host.variables import REPEAT, read_table

SUBFOLDERS = ("log", "checkpoints", "tensorboard", "wandb")


def claim_run_folder(folder: Path) -> Path:
    """Make exactly `folder`; raises UserError where another run has it or it cannot be made."""
    parent = folder.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # FileExistsError too: the parent is a file
        raise _unusable(parent, error) from None
    try:
        folder.mkdir()
        for sub in SUBFOLDERS:
            (folder / sub).mkdir()
    except FileExistsError:
        raise UserError(
            f"--run-dir {folder} exists: a run never writes into another's folder"
        ) from None
    except OSError as error:
        raise _unusable(parent, error) from None
    return folder.absolute()


def _unusable(parent: Path, error: OSError) -> UserError:
    return UserError(
        f"the run's folder cannot be made in {parent}: {reason(error)};"
        " set OUTPUT_DIR to a folder with room that you can write to"
    )


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
    try:
        replace_file(path, text, mode)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {reason(error)}") from None
    return path
