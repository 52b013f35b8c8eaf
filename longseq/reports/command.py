"""`longseq report RUN…`: a page for each run, and a table of them.

longseq report outputs/RUN              writes outputs/RUN/report.html
longseq report outputs/A outputs/B      the same, and the runs side by side
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from longseq.errors import EXIT_DONE, UserError


def report(argv: Sequence[str]) -> int:
    """Write the pages and print the table; raises UserError for a folder that is no run."""
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__)
        return EXIT_DONE
    if option := next((word for word in argv if word.startswith("-")), None):
        raise UserError(f"longseq report knows no option {option!r}: name folders of runs")
    from longseq.reports.compare import show
    from longseq.reports.page import write_page
    from longseq.reports.runs import read_run

    folders = [Path(word) for word in argv]
    show([read_run(folder) for folder in folders])
    for folder in folders:
        print(write_page(folder))
    return EXIT_DONE
