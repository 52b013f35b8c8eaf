"""A file for the output of each rank: RUN/log/rankN.out, whatever writes it, C++ included.

ALCF/rank.sh sends the ranks from 1 on to their files before Python starts. Rank 0 is also on the
screen: here it is split, at the level of file descriptors. No rank ends for words that find no
room: its file is mostly on the disk of the checkpoints, which may be full for a while.

The exit code of a run that stopped early, 75, is a failure to most launchers: Open MPI and srun
would kill the ranks that are still closing. So it goes by a file to ALCF/running.sh.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from longseq.errors import EXIT_DONE, EXIT_STOPPED_EARLY
from longseq.host import split_output


def _folder(environ: Mapping[str, str]) -> Path | None:
    """RUN/log where ALCF/running.sh started this rank, else None."""
    folder = environ.get("LONGSEQ_LOG", "")
    return Path(folder) if folder and os.path.isdir(folder) else None


# Of a process group of its own, and deaf: Slurm signals every process of a task, and a rank that is
# told to save must still have somewhere to print, also when the launcher is gone (PIPE)
TEE = ["/bin/sh", "-c", 'trap \'\' HUP INT PIPE TERM USR1 USR2; exec "$0" -I -S "$@"']
TEE += [sys.executable, split_output.__file__]


class _Lossy(io.FileIO):
    """A file descriptor that takes everything: what cannot be written is lost."""

    def write(self, words: Any, /) -> int:
        try:
            return super().write(words)
        except OSError:
            return memoryview(words).nbytes


def lossy(stream: TextIO) -> TextIO:
    """Writes where `stream` does, and never fails."""
    stream.flush()
    raw = _Lossy(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=True,
    )


def keep_output(environ: Mapping[str, str] = os.environ) -> None:
    """Let rank 0's output go to its file too, and let a crash in C++ say where Python was."""
    faulthandler.enable()
    sys.stdout, sys.stderr = lossy(sys.stdout), lossy(sys.stderr)
    folder = _folder(environ)
    if folder is None or environ.get("RANK", "0") != "0":
        return
    path = str(folder / "rank0.out")
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        number = stream.fileno()
        with contextlib.suppress(OSError):
            tee = subprocess.Popen(
                [*TEE, path],
                stdin=subprocess.PIPE,
                stdout=number,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            assert tee.stdin is not None
            os.dup2(tee.stdin.fileno(), number)
            tee.stdin.close()
            tee.returncode = 0  # nobody waits for it: it ends when the last writer has


def exit_code(code: int, environ: Mapping[str, str] = os.environ) -> int:
    """What this rank exits with: `code`, or 0 where 75 went into a file for ALCF/running.sh."""
    hydra = environ.get("LONGSEQ_STARTER", "hydra") == "hydra"  # hands every rank's 75 on
    if code != EXIT_STOPPED_EARLY or _folder(environ) is None:
        return code
    # Under Hydra as well: it may be gone
    if environ.get("RANK", "0") == "0" and not leave_code(code, environ):
        return code
    return code if hydra else EXIT_DONE


def leave_code(code: int, environ: Mapping[str, str] = os.environ) -> bool:
    """Write down how the run has ended, for ALCF/running.sh, whatever its launcher makes of it."""
    folder = _folder(environ)
    if folder is None:
        return False
    try:
        (folder / "exit-code").write_text(f"{code}\n", encoding="utf-8")
    except OSError:
        return False
    return True
