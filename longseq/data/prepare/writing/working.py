"""PREFIX.unfinished, where a preparation works: which files in it are a preparation's own, and how
they come beside it in the end.

A user may have a folder of that name. What is there is told by its names, and nothing else is ever
removed, nor worked beside.
"""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from longseq.data.indexed.manifest import ENDINGS, read_manifest
from longseq.data.indexed.writer import LENGTHS
from longseq.data.prepare.writing.output import LABELS
from longseq.data.prepare.writing.progress import SOURCES, STATE
from longseq.errors import UserError
from longseq.host.atomic_files import LOCK, publish_files

SURVEY = "survey-"  # what the names of files start with that hold what was learnt before
_SURVEYED = re.escape(SURVEY) + r"[0-9a-f]{16}\.(likeness|json|copy)"
_OWN = re.compile(
    rf"{LOCK}|{re.escape(STATE)}|{_SURVEYED}|\.({re.escape(STATE)}|{_SURVEYED})\.\d+\.tmp"
)
_ENDING = re.compile(
    "|".join(map(re.escape, (*ENDINGS, LENGTHS, LABELS, SOURCES, "copy")))
    + r"|spool-\d+(\.weights)?"
)


def check_working(given: str, folder: str, name: str) -> None:
    """Refuse to work in a folder that holds, or leads to, what no preparation of `name` wrote.

    A killed one left its lock, or was killed before that and left nothing.
    """
    if os.path.islink(folder) or (os.path.lexists(folder) and not os.path.isdir(folder)):
        raise _refused(given, folder, "which is no folder of its own")
    if not os.path.isdir(folder):
        return
    with os.scandir(folder) as found:
        entries = sorted(filter(_shown, found), key=lambda entry: entry.name)
    strange = [entry.name for entry in entries if not _own(entry, name)]
    if entries and not strange and {LOCK, STATE}.isdisjoint(entry.name for entry in entries):
        strange = [entries[0].name]
    with suppress(FileNotFoundError):  # as another, which has just ended, removes it
        if not strange and os.stat(os.path.join(folder, LOCK)).st_size:
            strange = [LOCK]
    if strange:
        raise _refused(given, folder, f"where {strange[0]} is of no preparation")


def clear(folder: Path, name: str, kept: Iterable[str], final: bool = False) -> None:
    """Remove whatever else of a preparation of `name` is in its folder; final: what was learnt
    before as well.
    """
    for path in folder.iterdir():
        surveyed = path.name.startswith(SURVEY) and not final
        if _own_name(path.name, name) and not surveyed and path.name not in (*kept, LOCK):
            path.unlink()


def publish(folder: Path, target: Path, names: list[str]) -> None:
    """Give what is whole its place, and remove what data that were there had beside it."""
    index = target.with_name(f"{target.name}.idx")
    old = prepared(str(target))
    index.unlink(missing_ok=True)  # so that none opens half of them
    for path in old - {str(target.with_name(name)) for name in names}:
        os.unlink(path)
    publish_files(folder, target.parent, names, index.name)


def prepared(prefix: str) -> set[str]:
    """The files of data that were prepared, as far as they are there."""
    try:
        manifest = read_manifest(prefix)
    except UserError:  # of something else
        return set()
    files = {"json", *manifest.files} & {*ENDINGS} if manifest else set()
    return {path for ending in files if os.path.lexists(path := f"{prefix}.{ending}")}


def remove_working(folder: Path, name: str) -> None:
    """Remove the folder; the lock, which says whose it is, last."""
    with suppress(OSError):
        clear(folder, name, [], final=True)
        (folder / LOCK).unlink()
        folder.rmdir()


def _own(entry: "os.DirEntry[str]", name: str) -> bool:
    return _own_name(entry.name, name) and entry.is_file(follow_symlinks=False)


def _shown(entry: "os.DirEntry[str]") -> bool:
    """Desktops and NFS leave hidden files anywhere, and no folder is a user's own by these."""
    hidden = entry.name.startswith(".") and entry.is_file(follow_symlinks=False)
    return not hidden or bool(_OWN.fullmatch(entry.name))


def _own_name(file: str, name: str) -> bool:
    ending = file.removeprefix(f"{name}.")
    return bool(_OWN.fullmatch(file) or (ending != file and _ENDING.fullmatch(ending)))


def _refused(given: str, folder: str, why: str) -> UserError:
    return UserError(
        f"{given} would be prepared in {folder}, {why}: move that away, or name another --output"
    )
