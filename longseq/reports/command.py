"""`longseq report RUN…`: a page for each run, and a table of them.

longseq report outputs/RUN              writes outputs/RUN/report.html
longseq report outputs/*                the same, and the runs side by side
longseq report outputs/* --together runs.html      on one page, and runs.csv of what differs
longseq report outputs/RUN --csv        outputs/RUN/metrics.csv, an iteration a row
                                        (of a chain, from the first of its runs on)
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longseq.config.flags import Parser
from longseq.errors import EXIT_DONE, EXIT_FAILED, UserError
from longseq.host.atomic_files import reason, replace_file, unwritable

TABLE = "metrics.csv"  # in a run's folder


def add_arguments(parser: Parser) -> None:
    """Any number of folders."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--together", type=Path, metavar="FILE.html", help="all on one page, and what differs"
    )
    parser.add_argument("--csv", action="store_true", help="metrics.csv in each run's folder too")
    parser.set_defaults(run_verb=report)


def report(options: argparse.Namespace) -> int:
    """Write the pages and print the table. A folder that is no run is named and left out, as a
    shell's * takes such ones too; one that is not there is a mistake, and 1 the end of all the
    rest. Raises UserError where none is a run.
    """
    from longseq.reports.compare import check_together, show, write_together
    from longseq.reports.page import PAGE, write_page
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
    if options.together:
        pages = [run.folder / name for run in runs for name in (PAGE, TABLE)]
        check_together(options.together, pages)
    show(runs)
    for run in runs:
        print(write_page(run))
        if options.csv:
            print(write_csv(run.folder / TABLE, run.history + run.metrics))
    for path in write_together(runs, options.together) if options.together else ():
        print(path)
    for run in runs:
        if run.lost:
            left_out.append(f"{run.folder}: {run.lost} lines of metrics.jsonl cannot be read")
    for text in left_out:
        print(f"longseq: left out: {text}", file=sys.stderr)
    return EXIT_DONE if all(folder.exists() for folder in options.runs) else EXIT_FAILED


def write_csv(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    """A row for each record, a column for each key of any; what is not there is empty, and what is
    no number or text is JSON. Raises UserError where it cannot be written.
    """
    keys = list(dict.fromkeys(key for record in records for key in record))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(keys)
    for record in records:
        values = [record.get(key) for key in keys]
        writer.writerow([json.dumps(v) if isinstance(v, dict | list) else v for v in values])
    try:
        replace_file(path, text.getvalue())
    except OSError as error:
        raise unwritable(f"{path} cannot be written: {reason(error)}", error) from None
    return path
