"""What --load and --save ask for, looked at before any rank starts; no torch, nothing changed.

check_request(config, vocabulary, warn)      # raises UserError
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

from longseq.checkpoint.fit import check_fit, check_vocabulary
from longseq.checkpoint.format.folder import find_latest
from longseq.checkpoint.left_out import read_left_out
from longseq.checkpoint.owner import may_use
from longseq.config.arguments import Config
from longseq.reports.format import size


def check_request(config: Config, vocabulary: int, warn: Callable[[str], None]) -> None:
    """Refuse a checkpoint that is not there or does not fit, and a folder that is another run's.

    vocabulary: 0 where it is not known yet. Names and sizes of files are looked at; the ranks check
    the hashes when they load.
    """
    loaded, damaged = None, set[Path]()
    if config.run.load:
        load = Path(config.run.load)
        loaded, manifest = find_latest(load, warn, hashes=False, damaged=damaged)
        check_fit(loaded, manifest, config)
        read_left_out(load, loaded.parent)
        if vocabulary:
            check_vocabulary(loaded, manifest, vocabulary)
        if not vocabulary:  # once
            _tell_left(loaded.parent, Path(config.run.save))
    if config.run.save:
        may_use(Path(config.run.save), loaded, damaged)


def _tell_left(folder: Path, save: Path) -> None:
    """Name what a killed run has left of a save where this one does not save: a run removes nothing
    of another's.
    """
    left = sorted(folder.glob("step-*.tmp"))
    if left and folder.resolve() != save.resolve():
        each = ", ".join(f"{path.name} ({size(_bytes(path))})" for path in left)
        text = f"{folder} holds what is left of a save: {each}"
        print(f"longseq: note: {text}; unless its run still writes, remove it", file=sys.stderr)


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            total += path.lstat().st_size
    return total
