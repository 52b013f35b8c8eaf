"""Whether an input is still the one that was read before."""

import os

from longseq.data.sources.remote import is_url
from longseq.host.atomic_files import Sha256


def identity(path: str) -> str:
    """Digest of the name, size and time of change of a file; of a URL its name's digest, for it may
    hold a password; of standard input nothing.
    """
    name = Sha256(path.encode("utf-8", "surrogateescape")).hexdigest()
    if is_url(path):
        return name
    if path == "-":  # a file may be called so, too
        return ""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{name} {found.st_size} {found.st_mtime_ns}"
