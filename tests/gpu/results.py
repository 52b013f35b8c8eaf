"""What one step of tests/gpu/run.sh found: rows that are printed and kept as they come.

    options = step_options(__doc__)
    results = Results(options.out, "TFLOPS", "MFU")
    if not results.has("GPT125M 8192"):                    # a step that was cut off goes on
        results.row("GPT125M 8192", "ok", TFLOPS=311.2, MFU=0.31)
    sys.exit(results.exit_code)

A verdict is ok, wrong, failed, out of memory, or not run; the last three say why in `why`. The file
is replaced whole after each row, so that a killed step keeps what it has found.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from longseq.engine.distributed import let_segments_grow
from longseq.host.atomic_files import replace_file

VERDICTS = ("ok", "wrong", "failed", "out of memory", "not run")
CUT_OFF = 3  # the exit code of a step whose time ran out
FAULTY = 4  # of one that is done, and found something wrong or failed: 1 is Python's own


def step_parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that every step has; asked for before anything else uses the GPU."""
    let_segments_grow()
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    here = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--out", type=Path, help="file for the rows; those in it are not run again")
    parser.add_argument("--within", type=float, default=0, help="seconds, then it ends; 0: none")
    parser.add_argument("--device", choices=("cuda", "cpu"), default=here)
    parser.add_argument("--tiny", action="store_true", help="sizes for a CPU")
    return parser


def step_options(doc: str | None, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line of a step without options of its own, read; its time runs from now on."""
    return started(step_parser(doc), argv)


def started(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """The command line, read; from now on the step's time runs."""
    warnings.simplefilter("ignore")  # libraries' about their own future, once a call
    options = parser.parse_args(argv)
    if options.within > 0:
        # SystemExit, so that `kept` does not take it for a failure
        signal.signal(signal.SIGALRM, lambda *_: sys.exit(CUT_OFF))
        signal.setitimer(signal.ITIMER_REAL, options.within)
    return options


class Results:
    """Rows of one step, in the order in which they came."""

    def __init__(self, path: Path | None, *columns: str) -> None:
        """path: where they are kept; rows that are there already stay. columns: to be shown."""
        self.path, self.columns = path, columns
        self.rows: list[dict[str, Any]] = []
        if path and path.exists():
            self.rows = json.loads(path.read_text(encoding="utf-8"))["rows"]

    def has(self, what: str) -> bool:
        """Whether there is a row of `what` already."""
        return any(row["what"] == what for row in self.rows)

    def row(self, what: str, verdict: str, why: str = "", **values: Any) -> None:
        """Print a row and keep it; values are numbers or text."""
        assert verdict in VERDICTS
        row = {"what": what, "verdict": verdict, **values} | ({"why": why} if why else {})
        self.rows.append(row)
        shown = [f"{name} {short(value)}" for name, value in values.items()]
        print(f"{what:<44} {verdict:<13}", "  ".join(shown), why[:300], flush=True)
        if self.path:
            text = json.dumps({"columns": self.columns, "rows": self.rows}, indent=1)
            replace_file(self.path, text + "\n")

    @contextmanager
    def kept(self, what: str, **values: Any) -> Iterator[None]:
        """What goes wrong inside becomes a row; memory that ran out is told apart."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            self.row(what, "out of memory", _line(error), **values)
        except Exception as error:
            self.row(what, "failed", f"{type(error).__name__}: {_line(error)}", **values)

    @property
    def exit_code(self) -> int:
        """FAULTY where a row is wrong or failed."""
        faulty = any(row["verdict"] in ("wrong", "failed") for row in self.rows)
        return FAULTY if faulty else 0


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]


def short(value: Any) -> str:
    """A value as tables show it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
