"""`longseq doctor`, and the two parts of it that ALCF/preflight.sh calls.

longseq doctor [--json]
longseq doctor --measure [--disk FOLDER] [--json]          the rates of this machine (measure)
longseq doctor probe FOLDER DEVICE DATA OUTPUT             on each host
longseq doctor judge FOLDER DEVICE PER_HOST [--json]       hosts on standard input, one a line
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

from longseq.config.flags import Parser
from longseq.errors import EXIT_DONE, UserError

EXIT_BAD_HOST = 69  # sysexits' EX_UNAVAILABLE


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
    parts = parser.add_subparsers(metavar="PART", title="what ALCF/preflight.sh calls")
    look = parts.add_parser("probe", help="look at this host")
    for name in ("folder", "device", "data", "output"):
        look.add_argument(name)
    look.set_defaults(run_verb=_probe)
    read = parts.add_parser("judge", help="read what the probes wrote; hosts on standard input")
    read.add_argument("folder", type=Path)
    read.add_argument("device")
    read.add_argument("per_host", type=int)
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
    from longseq.doctor.measure import measure, table

    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--disk {folder}: this is no folder that can be written: name one")
    facts = measure(folder)
    print(json.dumps(facts, indent=2) if as_json else table(facts))
    return EXIT_DONE


def _probe(options: argparse.Namespace) -> int:
    from longseq.doctor.probe import probe

    return probe(Path(options.folder), options.device, options.data, options.output)


def _judge(options: argparse.Namespace) -> int:
    """Print the verdict; write the fit hosts to FOLDER/good.txt, whether all were connected to
    FOLDER/connected.txt. Exit code 69 for a bad host.
    """
    from longseq.doctor.judge import judge, table

    folder, hosts = options.folder, sys.stdin.read().split()
    verdict = judge(folder, hosts, options.device, options.per_host)
    (folder / "good.txt").write_text("".join(f"{host}\n" for host in verdict.good))
    connected = len(hosts) == 1 or verdict.slowest is not None
    (folder / "connected.txt").write_text(f"{int(connected)}\n")
    if options.json:
        print(json.dumps(verdict.as_json() | {"ok": not verdict.bad and connected}, indent=2))
    else:
        print("\n".join(table(verdict)))
    return EXIT_DONE if connected and not verdict.bad else EXIT_BAD_HOST
