"""`longseq doctor`, and the two parts of it that ALCF/preflight.sh calls.

longseq doctor [--json]
longseq doctor --measure [--disk FOLDER] [--json]          the rates of this machine (measure)
longseq doctor probe FOLDER DEVICE DATA OUTPUT             on each host
longseq doctor judge FOLDER DEVICE PER_HOST [--least GBS] [--transport KIND] [--json]
                                                           hosts on standard input, one a line
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

from longseq.config.flags import Parser
from longseq.errors import EXIT_BAD_HOST, EXIT_DONE, UserError

CHECKED = """Checked on each host: that it answers, Python and library versions, GPUs in sight,
idle, without faults and not slowed down, limits (ulimit), the clock, room in TMPDIR, /dev/shm and
OUTPUT_DIR, that DATA_PATH can be read, the port where ranks meet; over all of them who is slow, by
pairs, what NCCL took for a network, where ranks run, an all-reduce. Exit code: 0 all are well, 69 a
bad host or network, 2 a mistake in what was asked for or in the environment, 75 stopped before it
was done."""


def add_arguments(parser: Parser) -> None:
    """`longseq doctor [--json]`, `--measure`, and the two parts."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--measure", action="store_true", help="measure this machine, in the terms of a plan"
    )
    parser.add_argument(
        "--disk", type=Path, metavar="FOLDER", help="with --measure: whose disk (this folder's)"
    )
    parser.set_defaults(run_verb=_all)
    parser.usage = "%(prog)s [OPTION ...]"
    parser.description = f"{parser.description}.\n\n{CHECKED}"
    # What ALCF/preflight.sh calls, and nobody else
    parts = parser.add_subparsers(metavar="PART", help=argparse.SUPPRESS)
    look = parts.add_parser("probe")
    for name in ("folder", "device", "data", "output"):
        look.add_argument(name)
    look.set_defaults(run_verb=_probe)
    read = parts.add_parser("judge")  # what the probes wrote; hosts on standard input
    read.add_argument("folder", type=Path)
    read.add_argument("device")
    read.add_argument("per_host", type=int)
    read.add_argument("--least", type=float, default=0.0, metavar="GBS", help="GB/s of two hosts")
    read.add_argument("--transport", default="", choices=["", "libfabric", "ib"], help="of NCCL")
    read.add_argument("--json", action="store_true", help="print JSON")
    read.set_defaults(run_verb=_judge)


def _all(options: argparse.Namespace) -> int:
    """Measure, or become the script that finds the hosts and probes them."""
    if options.measure:
        return _measure(options.disk or Path(), options.json)
    if options.disk:
        raise UserError(f"--disk {options.disk} needs --measure")
    script = str(Path(__file__).resolve().parents[2] / "ALCF" / "doctor.sh")
    return _become(["/bin/bash", script, *(["--json"] if options.json else [])])


def _become(command: list[str]) -> NoReturn:
    os.execv(command[0], command)


def _measure(folder: Path, as_json: bool) -> int:
    """Print the rates of this machine; raises UserError where the folder cannot be written."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--disk {folder}: this is no folder that can be written: name one")
    from longseq.doctor.measure import measure, table

    facts = measure(folder)
    print(json.dumps(facts, indent=2) if as_json else table(facts))
    return EXIT_DONE


def _probe(options: argparse.Namespace) -> int:
    from longseq.doctor.probe import probe

    return probe(Path(options.folder), options.device, options.data, options.output)


def _judge(options: argparse.Namespace) -> int:
    """Print the verdict; write the fit hosts to FOLDER/good.txt. Exit code 69 for a bad one."""
    from longseq.doctor.judge import judge
    from longseq.doctor.links import LEAST
    from longseq.doctor.verdict import Wanted, table

    wanted = Wanted(options.device, options.per_host, options.least or LEAST, options.transport)
    verdict = judge(options.folder, sys.stdin.read().split(), wanted)
    (options.folder / "good.txt").write_text("".join(f"{host}\n" for host in verdict.good))
    print(json.dumps(verdict.as_json(), indent=2) if options.json else "\n".join(table(verdict)))
    return EXIT_DONE if verdict.fit else EXIT_BAD_HOST
