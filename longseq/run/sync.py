"""`longseq sync RUN…`: what runs have recorded offline goes to Weights & Biases.

longseq sync outputs/*                from a host with a network and a key, as a login node is
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from longseq.config.flags import Parser
from longseq.errors import EXIT_DONE, EXIT_FAILED, UserError
from longseq.run.wandb_sink import address, for_wandb, wandb_mode

ANSWER_SECONDS = 15.0


def add_arguments(parser: Parser) -> None:
    """Any number of folders."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.set_defaults(run_verb=sync)


def sync(options: argparse.Namespace) -> int:
    """Send each run's records by wandb's own program, which leaves out what it has sent before.

    Raises UserError without a key, without a network, and where no folder holds offline records.
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
    reach(address())
    failed = 0
    for path in found:
        print(f"longseq: {path}", file=sys.stderr, flush=True)
        words = [sys.executable, "-m", "wandb", "sync", "--yes", str(path.absolute())]
        own = path.parent.parent  # where wandb leaves its log
        done = subprocess.run(
            words, env=for_wandb("online"), cwd=own, stdin=subprocess.DEVNULL, check=False
        )
        failed += done.returncode != 0
    if failed:
        print(f"longseq: {failed} of {len(found)} could not be sent", file=sys.stderr)
    return EXIT_FAILED if failed else EXIT_DONE


def offline(run: Path) -> list[Path]:
    """The offline records of a run, the oldest first."""
    return sorted(path for path in (run / "wandb").glob("offline-run-*") if path.is_dir())


def reach(server: str) -> None:
    """Ask it for anything; raises UserError where nothing answers, for which wandb waits long."""
    try:
        urllib.request.urlopen(server, timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # which is an answer
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise UserError(
            f"{server} cannot be reached from here: {why}; go to a host with a network, or set"
            " https_proxy (WANDB_BASE_URL names another server)"
        ) from None
