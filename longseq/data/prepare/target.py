"""Whether the files of a preparation may be written, asked before anything is read."""

import os
from pathlib import Path

from longseq.data.indexed.manifest import ENDINGS
from longseq.data.prepare.settings import Settings
from longseq.data.prepare.writing.working import check_working, prepared
from longseq.data.sources.inputs import Inputs
from longseq.data.tokenizers.kinds import files_of
from longseq.data.written import check_written
from longseq.errors import UserError
from longseq.host.atomic_files import LOCK, UNFINISHED


def check_target(inputs: Inputs, prefix: str, settings: Settings, overwrite: bool) -> None:
    """Refuse a prefix whose files are something else already: what is read, or, unless asked to
    overwrite, any that are no prepared data.
    """
    given = f"--output {prefix}"
    if not Path(prefix).name:
        raise UserError(f"{given}: give a prefix for files, such as {prefix}genomes")
    prefix = str(Path(prefix))  # what is written of seqs/ is seqs.bin
    if os.path.exists(f"{prefix}.idx") and not overwrite:
        raise UserError(f"{prefix}.idx exists: choose another --output, or add --overwrite")
    written = [f"{prefix}.{ending}" for ending in ENDINGS]
    for path in written:
        if os.path.isdir(path) and not os.path.islink(path):
            raise UserError(f"{given} would write {path}, which is a folder: name another")
    kept = {
        "is an input": inputs.files,
        "is a file of --tokenizer": [*filter(None, files_of(settings.recipe.tokenizer))],
        "is --metadata": [settings.metadata] if settings.metadata else [],
        "is of --annotation": settings.annotation,
        "is of --regions": settings.regions,
    }
    check_written(given, written, kept)
    folder = prefix + UNFINISHED
    if os.path.isdir(folder):
        _check_outside(given, folder, [path for files in kept.values() for path in files])
    check_working(given, folder, Path(prefix).name)
    if overwrite or os.path.exists(os.path.join(folder, LOCK)):  # a killed one was asked before
        return
    ours = prepared(prefix)
    for path in written:
        if os.path.lexists(path) and path not in ours:
            raise UserError(
                f"{given} would replace {path}, which is of no prepared data: name another, or add"
                " --overwrite"
            )


def _check_outside(given: str, folder: str, files: list[str]) -> None:
    """Refuse to read what lies where a preparation works, and is removed at its end."""
    for path in files:
        if os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep):
            raise UserError(f"{given} would remove {path}, which is read: name another")
