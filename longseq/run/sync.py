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
from longseq.host.atomic_files import replace_file
from longseq.run.wandb_sink import address, for_wandb, wandb_mode

ANSWER_SECONDS = 15.0
OUT_OF_ORDER = 500  # the first status that says so
MARK = ".synced"  # behind the name of a file that wandb has sent
CUT = ".cut"  # and of one that was sent as far as it goes: how many bytes that were
ENDS_WITHIN = "the file ends with an incomplete record"  # in wandb's words, once all of it was sent
STALLS = (
    "where the server stalls, wandb tries again for a quarter of an hour or longer; Ctrl-C ends it"
)
CUT_SAID = (
    "all that its file holds is sent. It ends within a record: the run was killed (metrics.jsonl"
    " has what is missing), or is under way: then sync it again after its end"
)


def add_arguments(parser: Parser) -> None:
    """Any number of folders."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.set_defaults(run_verb=sync)


def sync(options: argparse.Namespace) -> int:
    """Send each run's records by wandb's own program, which leaves out what it has sent before.

    Raises UserError without a key, without a network, and where no folder holds offline records.
    wandb's exit code is 0 whatever the server said: what was sent is what it has marked as such,
    and what it says to end within a record, as a run's file does that was killed. That is sent
    once, until it has grown: wandb would add the same records again.
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
    print(f"longseq: {STALLS}", file=sys.stderr, flush=True)
    failed = 0
    for path in found:
        print(f"longseq: {path}", file=sys.stderr, flush=True)
        if not _is_cut(path):
            failed += not _send(path)
        if _is_cut(path):
            print(f"longseq: {path}: {CUT_SAID}", file=sys.stderr, flush=True)
    if failed:
        print(
            f"longseq: {failed} of {len(found)} could not be sent to {address()}: wandb says why"
            " above; where it is the key, WANDB_API_KEY (or the line in ~/.netrc) must be one of"
            " this server (WANDB_BASE_URL)",
            file=sys.stderr,
        )
    return EXIT_FAILED if failed else EXIT_DONE


def _send(records: Path) -> bool:
    """Whether wandb's own program has sent all that an offline run's files hold."""
    files = _unmarked(records)
    sizes = [path.stat().st_size for path in files]
    words = [sys.executable, "-m", "wandb", "sync", "--yes", str(records.absolute())]
    with subprocess.Popen(
        words, env=for_wandb("online"), cwd=records.parent.parent,  # where wandb leaves its log
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
    ) as wandb:  # fmt: skip
        assert wandb.stderr is not None
        cut = 0
        for line in wandb.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            cut += ENDS_WITHIN in line
    if files and cut == len(files):
        for path, size in zip(files, sizes, strict=True):
            replace_file(Path(f"{path}{CUT}"), f"{size}\n")
        return True
    return wandb.returncode == 0 and is_sent(records)


def _unmarked(records: Path) -> list[Path]:
    """The files of an offline run that wandb has not marked as sent."""
    return [path for path in records.glob("*.wandb") if not Path(f"{path}{MARK}").exists()]


def _is_cut(records: Path) -> bool:
    """Whether all that an offline run's files hold was sent, and wandb waits for more of them."""
    files = _unmarked(records)
    return bool(files) and all(map(_is_sent_so_far, files))


def _is_sent_so_far(file: Path) -> bool:
    """Whether its mark says as many bytes as it has now; a damaged mark says nothing."""
    mark = Path(f"{file}{CUT}")
    return mark.exists() and mark.read_bytes() == b"%d\n" % file.stat().st_size


def offline(run: Path) -> list[Path]:
    """The offline records of a run, the oldest first."""
    try:
        there = sorted((run / "wandb").iterdir())  # glob would hide why a name cannot be read
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path for path in there if path.name.startswith("offline-run-") and path.is_dir()]


def is_sent(records: Path) -> bool:
    """Whether wandb has marked all of an offline run's records as sent, now or before."""
    return any(records.glob("*.wandb")) and not _unmarked(records)


def reach(server: str) -> None:
    """Ask it for anything; raises UserError where nothing answers, or a server that is out of
    order, for which wandb waits long.
    """
    try:
        urllib.request.urlopen(server, timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError as error:  # which is an answer
        if error.code >= OUT_OF_ORDER:
            raise UserError(
                f"{server} answers {error.code} ({error.reason or 'out of order'}) and takes no"
                " runs now: try again later (WANDB_BASE_URL names another server)"
            ) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise UserError(
            f"{server} cannot be reached from here: {why}; go to a host with a network, or set"
            " https_proxy (WANDB_BASE_URL names another server)"
        ) from None
