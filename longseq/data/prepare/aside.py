"""Files are written aside, in a folder that names its writer, and renamed when they are whole.

A killed writer leaves its folder; the next one on the same host removes it. No lock files: a lock
that outlives its owner would block everybody.
"""

import os
import secrets
import shutil
import socket
from pathlib import Path

from longseq.errors import UserError

MARK = ".aside-"


def make_aside(target: Path) -> Path:
    """A new empty folder beside `target`, after removing what killed writers left there."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for folder in target.parent.glob(_escape(target.name) + MARK + "*"):
            if _abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
        name = f"{target.name}{MARK}{_host()}-{os.getpid()}-{secrets.token_hex(3)}"
        aside = target.parent / name
        aside.mkdir()
    except OSError as error:
        raise UserError(
            f"{target.parent}: {error.strerror}: name a folder that can be written"
        ) from None
    return aside


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last through a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _host() -> str:
    return socket.gethostname().replace("-", "_") or "host"


def _escape(name: str) -> str:
    return "".join(f"[{c}]" if c in "[]*?" else c for c in name)


def _abandoned(folder: Path) -> bool:
    """Whether the writer that made a folder ran on this host and has ended."""
    parts = folder.name.rpartition(MARK)[2].split("-")
    if len(parts) != 3 or parts[0] != _host() or not parts[1].isdecimal():
        return False
    try:
        os.kill(int(parts[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
