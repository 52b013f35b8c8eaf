"""Several runs side by side: on the terminal, on one page, and as CSV.

show(runs)                                # the table on the terminal
write_together(runs, Path("runs.html"))   # curves on each other, what differs; runs.csv beside it
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from longseq.errors import UserError
from longseq.host.atomic_files import reason, replace_file, same_files, unwritable
from longseq.reports import curves, together
from longseq.reports.columns import columns
from longseq.reports.format import duration, no_number, number, short
from longseq.reports.page import render
from longseq.reports.runs import RunRecord, printable
from longseq.reports.sections import Table, flat, pairs, precision

FIRST = "run"  # column of what differs
COLUMNS = (
    "status",
    "iterations",
    "training loss",
    "validation loss",
    "tokens/s",
    "TFLOPS",
    "model TFLOPS",
    "GiB",
    "time",
)


def row(run: RunRecord) -> list[str]:
    """One run's figures, in the order of COLUMNS; speeds are medians."""
    return [
        run.status or "unknown",
        str(run.metrics[-1]["iteration"]),
        number(run.training_loss()[0], "{:.4f}"),
        number(run.last("validation_loss"), "{:.4f}"),
        short(run.typical("tokens_per_sec")),
        number(run.typical("tflops"), "{:.3g}"),
        number(run.typical("model_tflops"), "{:.3g}"),
        number(run.last("peak_memory_gib"), "{:.2f}"),
        duration(run.seconds()),
    ]


def show(runs: Sequence[RunRecord]) -> None:
    """Print the table: a run a line, or two on a narrow terminal; and what its speeds are, as
    `watch` has those of the last iteration.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    names = [printable(run.folder.name) for run in runs]
    for line in columns(names, COLUMNS, [row(run) for run in runs], width):
        print(line)
    print("tokens/s and TFLOPS: medians of a run's iterations")


def differences(runs: Sequence[RunRecord]) -> Table:
    """A row for each run: what people ask for first, what else differs, the figures, and the
    baselines that are not the same for all; columns that are alike in all runs stand behind.
    """
    settings = [dict(flat(run.summary.get("settings", {}))) for run in runs]
    _same_data(runs, settings)
    names = list(dict.fromkeys(name for each in settings for name in each))
    differing = [
        name
        for name in names
        if name not in ASKED.values()
        and name.split(".")[-1] not in OWN
        and len({each.get(name, "") for each in settings}) > 1
    ]
    apart = curves.common_marks(runs)[1]
    told = _told(runs)
    rows = []
    for n, (run, each) in enumerate(zip(runs, settings, strict=True)):
        asked = [each.get(name, "") for name in ASKED.values()]
        asked += [precision(run), _layout(run)]
        marks = dict(run.marks())
        asked += [each.get(name, "") for name in differing]
        rest = [number(marks.get(name), "{:.4f}") for name in apart]
        rest += [texts[n] for texts in told.values()]
        rows.append([run.folder.name, *asked, *row(run), *rest])
    flags = ["--" + name.split(".")[-1].replace("_", "-") for name in differing]
    more = [f"baseline: {name}" for name in apart] + list(told)
    head = [FIRST, *ASKED, "precision", "layout", *flags, *COLUMNS, *more]
    alike = [n > 0 and len({cells[n] for cells in rows}) == 1 for n in range(len(head))]
    order = sorted(range(len(head)), key=alike.__getitem__)
    head, *rows = ([cells[n] for n in order] for cells in (head, *rows))
    return Table("Differences", head, rows)


def _told(runs: Sequence[RunRecord]) -> dict[str, list[str]]:
    """Columns that stand there only where a run has something in them: without the first a run
    that diverged has the losses of before.
    """
    found = {
        "losses": ["; ".join(no_number(run.history + run.metrics)) for run in runs],
        "started": [str(run.environment.get("time", "")) for run in runs],
        "lines lost": [str(run.lost) for run in runs] if any(run.lost for run in runs) else [],
    }
    return {name: texts for name, texts in found.items() if any(texts)}


def _same_data(runs: Sequence[RunRecord], settings: Sequence[dict[str, str]]) -> None:
    """The same data by the same name, which one run may have named from its folder and another
    from the root; names that tell as much as whole paths stay as they were given.
    """
    given = [each.get(DATA, "") for each in settings]
    starts = [str(run.summary.get("directory", "")) for run in runs]
    whole = [
        os.path.normpath(os.path.join(start, name)) if name else ""
        for start, name in zip(starts, given, strict=True)
    ]
    if len(set(whole)) == len(set(given)) == len(set(zip(given, whole, strict=True))):
        return
    for each, path in zip(settings, whole, strict=True):
        each[DATA] = path


DATA = "data.data_path"
ASKED = {
    "length": "network.seq_length",
    "ranks": "layout.world_size",
    "ZeRO stage": "training.zero_stage",
    "seed": "training.seed",
}
OWN = frozenset(  # of a run alone, or told in another column
    "run_dir save load tensorboard_dir deepspeed_config chosen bf16 fp16 max_position_embeddings"
    " tensor_model_parallel_size ds_sequence_parallel_size context_parallel_size"
    " sequence_parallel".split()
)


def _layout(run: RunRecord) -> str:
    """The axes, as its opening says them behind the number of ranks."""
    return dict(pairs(run.summary.get("opening"))).get("layout", "").rpartition(" = ")[2]


TOGETHER: dict[str, Callable[[Sequence[RunRecord]], str]] = {  # by the titles of curves.py
    "Loss": lambda runs: together.losses_together(runs, near=False),
    "Validation loss": together.validations_together,
    curves.NEAR: lambda runs: together.losses_together(runs, near=True),
    "Throughput": together.speeds_together,
}


def check_together(path: Path, pages: Sequence[Path]) -> None:
    """Refuse a name that is no page's, one of the runs' own pages and tables, and a .csv beside it
    that is none of ours, which nobody named.
    """
    if path.suffix != ".html":
        raise UserError(f"--together {path}: give a name that ends in .html")
    beside = path.with_suffix(".csv")
    for written, _ in same_files([path, beside], pages):
        raise UserError(
            f"--together {path} would replace {written}, which is a run's: name another"
        )
    try:
        with beside.open("rb") as file:
            ours = file.read(len(FIRST) + 1) == f"{FIRST},".encode()
    except FileNotFoundError:
        return
    except OSError:
        ours = False
    if not ours:
        raise UserError(
            f"--together {path} would replace {beside}, which is no table of runs: name another"
        )


def write_together(runs: Sequence[RunRecord], path: Path) -> list[Path]:
    """The page and the CSV of what differs; raises UserError where they cannot be written."""
    table = differences(runs)
    content = curves.several(runs, together.labels(runs))
    text = render(
        name=f"{len(runs)} run{'s' if len(runs) > 1 else ''}",
        subtitle=", ".join(run.folder.name for run in runs),
        cards=[],
        pictures="Curves",
        drawn=[(c["title"], c["unit"], TOGETHER[c["title"]](runs)) for c in content["charts"]],
        content=content,
        by=" of each run by iteration",
        tables=[table],
        sections=[],
        details=[],
        command="",
    )
    rows = io.StringIO()
    csv.writer(rows, lineterminator="\n").writerows([table.head, *table.rows])
    beside = path.with_suffix(".csv")
    try:
        replace_file(path, text)
        replace_file(beside, rows.getvalue())
    except OSError as error:
        text = f"--together {path} cannot be written: {reason(error)}"
        raise unwritable(text, error) from None
    return [path, beside]
