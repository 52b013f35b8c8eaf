"""A rank that fails says so once, and takes the others with it, in seconds and with its exit code.

    report(code, text)     the reason, into a note that ALCF/running.sh reads, or onto the screen
    tell_launcher(code)    ends all ranks where the launcher would not
    take_leave()           a rank that ends well, so that the launcher leaves the others alone

Most launchers end a job when a rank exits with an error. MPICH's Hydra does so only for a rank that
was killed or that had started MPI; before that the others would wait for it until their timeout.
When one rank fails the others fail as well, of a lost connection: the notes have the time, so that
the screen shows the first failure and not a wall of consequences.
"""

import contextlib
import os
import re
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

READ_SECONDS = 0.5  # Hydra drops what it has not yet read of the ranks' output when it ends them
CONSEQUENCE = re.compile(
    r"connection (closed|reset|refused)|connectFullMesh|closed by peer|broken pipe|timed? ?out"
    r"|NCCL|DistBackendError|DistNetworkError|ncclRemoteError",
    re.IGNORECASE,
)


def report(
    code: int,
    text: str,
    environ: Mapping[str, str] = os.environ,
    rank: int | None = None,
    host: str = "",
) -> None:
    """Note why this rank ends with `code`; where no launcher reads notes, print it to stderr.

    `rank` and `host` are those at fault, where these are not this rank's.
    """
    folder = Path(environ.get("LONGSEQ_LOG") or os.devnull)
    number = environ.get("RANK", "0") if rank is None else str(rank)
    line = text.rstrip("\n") + "\n"
    if not folder.is_dir():
        _print(line)
        return
    # The rank's own file, past the screen that rank 0 shares
    with contextlib.suppress(OSError), open(folder / f"rank{number}.out", "ab") as output:
        output.write(_bytes(line))
    last = text.rstrip("\n").rsplit("\n", 1)[-1]
    where, follows = host or socket.gethostname(), int(_is_consequence(last))
    head = [repr(time.time()), where, str(code), str(follows)]
    try:
        with open(folder / f"failed-{number}.txt", "xb") as note:
            note.write(_bytes("\n".join(head) + "\n" + line))
    except FileExistsError:
        pass  # the first reason counts
    except OSError:
        _print(line)


def _bytes(text: str) -> bytes:
    """Whatever the locale, and whatever a name holds: no letter keeps anybody from a last word."""
    return text.encode(errors="backslashreplace")


def _print(line: str) -> None:
    """Where that, too, is on a full disk, the exit code alone must do."""
    with contextlib.suppress(OSError):
        print(line, end="", file=sys.stderr, flush=True)


def _is_consequence(text: str) -> bool:
    """Whether the last line of a traceback sounds like another rank's end."""
    return CONSEQUENCE.search(text) is not None


def tell_launcher(code: int, environ: Mapping[str, str] = os.environ) -> None:
    """Ask Hydra to end all ranks with exit code `code`; under other launchers does nothing.

    PMI_FD is the rank's connection to Hydra; this is the word that MPI_Abort would send there.
    """
    connection = environ.get("PMI_FD", "")
    if not connection.isdecimal():
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    time.sleep(READ_SECONDS)
    try:
        os.write(int(connection), f"cmd=abort exitcode={code}\n".encode())
    except OSError:
        return


def take_leave(environ: Mapping[str, str] = os.environ) -> None:
    """What MPICH 5 tells Hydra when a process exits in the usual way, which our ranks do not
    (os._exit): one that goes without it seems to have died, and the others, still closing, are
    killed. To be called by a rank that has used MPI, as its last word.
    """
    connection = environ.get("PMI_FD", "")
    if connection.isdecimal():
        with contextlib.suppress(OSError):
            os.write(int(connection), b"cmd=finalize\n")
            os.read(int(connection), 64)  # its answer: from here on it does not wait for this rank
