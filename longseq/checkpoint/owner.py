"""A folder of checkpoints belongs to one run at a time.

    claim = claim_folder(folder, loaded)   # loaded: what --load found; raises UserError
    claim.check()                          # before anything is put there; raises Lost, Gone
    claim.release()

The run that has the folder holds a lock on `owner.json`, which the kernel drops when it dies. Where
a file system has no locks between hosts, the last run to claim the folder is its owner: the other
one finds another's name in there before its next checkpoint, and stops. Standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from longseq.checkpoint.format.folder import steps
from longseq.checkpoint.format.manifest import Damaged, check_names, read_manifest
from longseq.errors import Gone, UserError
from longseq.host.atomic_files import gone, reason, sync_open, unwritable

OWNER = "owner.json"
TRIES, BETWEEN_TRIES = 5, 0.1  # and seconds


class Lost(Exception):
    """Another run has taken the folder."""


@dataclass
class Claim:
    """This run's hold on a folder."""

    path: Path
    text: str
    file: IO[str]

    def check(self) -> None:
        """Raise Lost where another run has taken the folder since, Gone where it is not there."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            folder = self.path.parent
            what = self.path if folder.is_dir() else folder
            raise Gone(gone(what)) from None
        if text != self.text:
            raise Lost(f"another run has taken {self.path.parent}: {text.strip()}")

    def release(self) -> None:
        """Let another run have the folder."""
        self.file.close()


def claim_folder(folder: Path, loaded: Path | None, damaged: Set[Path] = frozenset()) -> Claim:
    """Take `folder` for this run, which goes on from the checkpoint `loaded`, None for a fresh one.

    damaged: checkpoints that were passed over for it, resolved.
    Raises UserError where another run is writing there, or has left what this one would replace.
    """
    may_use(folder, loaded, damaged)
    text = json.dumps(
        {
            "run": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / OWNER).open("a+", encoding="utf-8")
        if not _lock(file):
            raise _in_use(folder)
        file.truncate(0)
        file.write(text)
        sync_open(file)
    except OSError as error:
        raise unwritable(
            f"--save {folder} cannot be written: {reason(error)}; free some, or choose another"
            " folder",
            error,
        ) from None
    return Claim(folder / OWNER, text, file)


def may_use(folder: Path, loaded: Path | None, damaged: Set[Path] = frozenset()) -> None:
    """Raise UserError where `claim_folder` would; takes and changes nothing."""
    if not folder.is_dir():
        return
    found = {step: path for step, path in steps(folder).items() if path.resolve() not in damaged}
    # One of its checkpoints may be a link, to where somebody has moved it
    ours = loaded and folder.resolve() in (loaded.resolve().parent, loaded.parent.resolve())
    if found and not ours:
        raise UserError(
            f"--save {folder} holds step-{max(found)} of another run: give --load {folder} (LOAD)"
            " to go on from it, or choose another folder"
        )
    if loaded and ours:
        _newer(folder, loaded, found)
    try:
        with (folder / OWNER).open("r+", encoding="utf-8") as file:
            if not _lock(file):
                raise _in_use(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(f"--save {folder} cannot be used: {reason(error)}") from None


def _newer(folder: Path, loaded: Path, found: dict[int, Path]) -> None:
    """Refuse to go on from a checkpoint beside later whole ones, which would be replaced."""
    same = {loaded.name, loaded.resolve()}  # by name, or one is a link to the other
    at = next((step for step, path in found.items() if same & {path.name, path.resolve()}), 0)
    for step, path in sorted(found.items(), reverse=True):
        if step <= at:
            return
        try:
            check_names(path, read_manifest(path))
        except Damaged:
            continue
        except UserError:  # another version's, for which it is whole
            pass
        raise UserError(
            f"--save {folder} holds step-{step}, later than {loaded.name} that --load goes on from:"
            " choose another folder for --save, or remove the later ones"
        )


def _in_use(folder: Path) -> UserError:
    try:
        owner = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        who = f" (process {owner['process']} on {owner['host']}, since {owner['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        who = ""
    return UserError(
        f"--save {folder}: another run{who} is writing checkpoints there: stop it first, or choose"
        " another folder"
    )


def _lock(file: IO[str]) -> bool:
    """Whether nobody else holds the file; where the file system has no locks, nobody does.

    Who only asks (`may_use`) holds it for a moment too, so it is tried a few times.
    """
    for _ in range(TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(BETWEEN_TRIES)
        except OSError:
            return True
        else:
            return True
    return False
