"""`longseq doctor`, and the two parts of it that ALCF/preflight.sh calls.

longseq doctor [--json]
longseq doctor probe FOLDER DEVICE DATA OUTPUT             on each host
longseq doctor judge FOLDER DEVICE PER_HOST [--json]       hosts on standard input, one a line
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from longseq.errors import EXIT_DONE, UserError

EXIT_BAD_HOST = 69  # sysexits' EX_UNAVAILABLE


def doctor(argv: Sequence[str]) -> int:
    """Run one of the three; only the judge's exit code says something: 69 for a bad host."""
    words = list(argv)
    if words[:1] == ["probe"] and len(words) == 5:
        from longseq.doctor.probe import probe

        return probe(Path(words[1]), *words[2:])
    if words[:1] == ["judge"] and len(words) in (4, 5):
        return _judge(words[1:])
    if not set(words) <= {"--json", "-h", "--help"}:
        raise UserError(f"doctor {' '.join(words)}: give nothing, or --json")
    return _all(words)


def _all(words: Sequence[str]) -> NoReturn:
    """Become the script that finds the hosts and probes them."""
    script = Path(__file__).resolve().parents[2] / "ALCF" / "doctor.sh"
    os.execv("/bin/bash", ["/bin/bash", str(script), *words])


def _judge(words: Sequence[str]) -> int:
    """Print the verdict; write the fit hosts to FOLDER/good.txt, whether all were connected to
    FOLDER/connected.txt.
    """
    from longseq.doctor.judge import judge, table

    folder = Path(words[0])
    hosts = sys.stdin.read().split()
    verdict = judge(folder, hosts, words[1], int(words[2]))
    (folder / "good.txt").write_text("".join(f"{host}\n" for host in verdict.good))
    connected = len(hosts) == 1 or verdict.slowest is not None
    (folder / "connected.txt").write_text(f"{int(connected)}\n")
    if words[3:] == ["--json"]:
        print(json.dumps(verdict.as_json() | {"ok": not verdict.bad and connected}, indent=2))
    else:
        print("\n".join(table(verdict)))
    return EXIT_DONE if connected and not verdict.bad else EXIT_BAD_HOST
