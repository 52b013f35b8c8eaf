"""Writing so that a reader never sees half a file and a power cut never leaves one."""

import errno
import os
from pathlib import Path

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def sync(path: Path) -> None:
    """Flush a file or a folder (its list of names) to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, text: str, mode: int = 0o644) -> None:
    """Put `text` at `path` whole: written beside it, flushed, then renamed over it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(aside, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, mode)) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def reason(error: OSError) -> str:
    """What went wrong in words a user can act on."""
    if error.errno in NO_ROOM:
        return "no space left (disk full, quota or file size limit)"
    return error.strerror or str(error)
