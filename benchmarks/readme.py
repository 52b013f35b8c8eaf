"""Measures README's table again and prints old beside new.

Runs the command of each row under "Measured", one after the other, and takes its last line as the
new figure. All of them take hours on two cores; --only names some.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass

from longseq.reports.format import duration
from tests.parallel.ranks import ROOT, rank_environ

ROW = re.compile(r"^\| (?P<what>.+) \| (?P<figure>.+) \| `python -m (?P<words>[^`]+)` \|$", re.M)


@dataclass(frozen=True)
class Row:
    """A row of the table: what was measured, its figure, and what follows `python -m`."""

    what: str
    figure: str
    words: list[str]

    @property
    def name(self) -> str:
        return self.words[1] if self.words[0] == "benchmarks" else self.words[0]


def rows_of(text: str) -> list[Row]:
    """The rows of README's table."""
    return [Row(m["what"], m["figure"], shlex.split(m["words"])) for m in ROW.finditer(text)]


def measure(row: Row) -> str:
    """The last line of the row's command, whose other lines appear as they come."""
    command = [sys.executable, "-m", *row.words]
    env = rank_environ()
    del env["OMP_NUM_THREADS"]  # each benchmark says how many it wants
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"    {line}", end="", flush=True)
            last = line.strip() or last
    return last if process.returncode == 0 else f"failed, exit code {process.returncode}"


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows of these benchmarks")


def main(options: Namespace) -> None:
    rows = rows_of((ROOT / "README.md").read_text(encoding="utf-8"))
    if options.only:
        if unknown := sorted(set(options.only) - {row.name for row in rows}):
            sys.exit(f"--only {unknown[0]}: README's table has {', '.join(r.name for r in rows)}")
        rows = [row for row in rows if row.name in options.only]
    began = time.monotonic()
    found = []
    for number, row in enumerate(rows, 1):
        taken = duration(time.monotonic() - began)
        print(f"[{number}/{len(rows)}, {taken}] python -m {shlex.join(row.words)}", flush=True)
        found.append(measure(row))
    print()
    for row, now in zip(rows, found, strict=True):
        print(f"{row.what}\n    README  {row.figure}\n    now     {now}")
