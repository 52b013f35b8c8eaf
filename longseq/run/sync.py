"""`longseq sync RUN…`: what runs have recorded offline goes to Weights & Biases.

longseq sync outputs/*                from a host with a network and a key, as a login node is
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from longseq.config.flags import Parser
from longseq.errors import EXIT_DONE, EXIT_FAILED, UserError
from longseq.run.wandb_sink import wandb_mode


def add_arguments(parser: Parser) -> None:
    """Any number of folders."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.set_defaults(run_verb=sync)


def sync(options: argparse.Namespace) -> int:
    """Send each run's records by wandb's own program, which leaves out what it has sent before.

    Raises UserError without a key, and where no folder holds offline records.
    """
    found = [path for run in options.runs for path in offline(run)]
    if not found:
        names = ", ".join(map(str, options.runs))
        raise UserError(f"{names}: no records that wait to be sent (RUN/wandb/offline-run-*)")
    if wandb_mode() != "online":
        raise UserError(
            "no key of Weights & Biases here: `wandb login` once, or WANDB_API_KEY; and WANDB_MODE"
            " must not say otherwise"
        )
    failed = 0
    for path in found:
        print(f"longseq: {path}", file=sys.stderr, flush=True)
        words = [sys.executable, "-m", "wandb", "sync", "--yes", str(path)]
        failed += subprocess.run(words, stdin=subprocess.DEVNULL, check=False).returncode != 0
    if failed:
        print(f"longseq: {failed} of {len(found)} could not be sent", file=sys.stderr)
    return EXIT_FAILED if failed else EXIT_DONE


def offline(run: Path) -> list[Path]:
    """The offline records of a run, the oldest first."""
    return sorted(path for path in (run / "wandb").glob("offline-run-*") if path.is_dir())
