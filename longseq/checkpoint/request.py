"""What --load and --save ask for, looked at before any rank starts; no torch, nothing changed.

check_request(config, vocabulary, warn)      # raises UserError
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from longseq.checkpoint.fit import check_fit, check_vocabulary
from longseq.checkpoint.format.folder import find_latest
from longseq.checkpoint.left_out import read_left_out
from longseq.checkpoint.owner import may_use
from longseq.config.arguments import Config


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
        read_left_out(loaded.parent)
        if vocabulary:
            check_vocabulary(loaded, manifest, vocabulary)
    if config.run.save:
        may_use(Path(config.run.save), loaded, damaged)
