"""`longseq report RUN…`: a page for each run, and a table of them.

longseq report outputs/RUN              writes outputs/RUN/report.html
longseq report outputs/*                the same, and the runs side by side
longseq report outputs/* --together runs.html      on one page, and runs.csv of what differs
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from longseq.config.flags import Parser
from longseq.errors import EXIT_DONE, UserError


def add_arguments(parser: Parser) -> None:
    """Any number of folders."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--together", type=Path, metavar="FILE.html", help="all on one page, and what differs"
    )
    parser.set_defaults(run_verb=report)


def report(options: argparse.Namespace) -> int:
    """Write the pages and print the table. A folder that is no run is named and left out; raises
    UserError where none is one.
    """
    from longseq.reports.compare import show, write_together
    from longseq.reports.page import write_page
    from longseq.reports.runs import RunRecord, read_run

    runs: list[RunRecord] = []
    left_out: list[str] = []
    for folder in options.runs:
        try:
            runs.append(read_run(folder))
        except UserError as error:
            left_out.append(str(error))
    if not runs:
        raise UserError(left_out[0])
    if options.together and options.together.suffix != ".html":
        raise UserError(f"--together {options.together}: give a name that ends in .html")
    show(runs)
    for run in runs:
        print(write_page(run))
    for path in write_together(runs, options.together) if options.together else ():
        print(path)
    for run in runs:
        if run.lost:
            left_out.append(f"{run.folder}: {run.lost} lines of metrics.jsonl cannot be read")
    for text in left_out:
        print(f"longseq: left out: {text}", file=sys.stderr)
    return EXIT_DONE
