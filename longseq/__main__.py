"""`longseq VERB …`: what can be done without starting ranks.

longseq check --world-size 2 ARGUMENTS…   the trainer's arguments, checked; prepares the run
longseq prepare INPUT… --output PREFIX    FASTA, FASTQ, GenBank, text to tokens
longseq data inspect|verify|decode PREFIX prepared data: look, check, turn back
longseq report RUN…                       a page for each run, and a table of them
longseq doctor [--json]                   is every host of this allocation fit for a run?
longseq flags                             every flag with its default
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from longseq.errors import EXIT_USER_ERROR, UserError


def _check(argv: Sequence[str]) -> int:
    from longseq.run.check import prepare_run

    return prepare_run(argv)


def _prepare(argv: Sequence[str]) -> int:
    from longseq.data.commands import prepare

    return prepare(argv)


def _data(argv: Sequence[str]) -> int:
    from longseq.data.commands import data

    return data(argv)


def _report(argv: Sequence[str]) -> int:
    from longseq.reports.command import report

    return report(argv)


def _doctor(argv: Sequence[str]) -> int:
    from longseq.doctor.command import doctor

    return doctor(argv)


def _flags(argv: Sequence[str]) -> int:
    from longseq.reports.flag_table import flag_table

    print(flag_table())
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "check": _check,
    "prepare": _prepare,
    "data": _data,
    "report": _report,
    "doctor": _doctor,
    "flags": _flags,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code is 2 for the user's mistakes, after one line on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    try:
        if words[0] not in VERBS:
            raise UserError(f"unknown verb {words[0]!r}: use one of {', '.join(VERBS)}")
        return VERBS[words[0]](words[1:])
    except UserError as error:
        print(f"longseq: {error}", file=sys.stderr)
        return EXIT_USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
