"""The curves of several runs on each other, as SVG pictures."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from longseq.reports.columns import shortened
from longseq.reports.curves import common_marks
from longseq.reports.plots import (
    BLUE,
    GREEN,
    ORANGE,
    VIOLET,
    as_svg,
    bounds_near,
    draw_marks,
    from_zero,
    smooth,
    thin,
)
from longseq.reports.runs import RunRecord, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (BLUE, ORANGE, GREEN, VIOLET, "#b5403c", "#3b9bb3", "#8a6d3b")  # INK is the marks'
SIZES = (7, 5.5, 4, 2.5)  # of points: equal ones show each other
ROOM = 39  # of a name, in letters
LONG = 24  # characters of a name on a curve
LINES = ("-", "--", ":", "-.")  # neighbours are told apart without colour, and one on another


def labels(runs: Sequence[RunRecord]) -> list[str]:
    """The runs' names, as short as tells them apart: without the day, process and time that end
    them, or with the time of day; without what long ones begin with alike, and without the middle
    of what is long still.
    """
    names = [printable(run.folder.name) for run in runs]
    for short in (r"\1", r"\1 \2"):
        found = [re.sub(r"(.+)_\d{8}-(\d{6})_\d+", short, name) for name in names]
        if len(set(found)) == len(names):
            names = found
            break
    if max(map(len, names), default=0) > LONG:
        same = itertools.takewhile(
            lambda letters: len(set(letters)) == 1, zip(*names, strict=False)
        )
        alike = "".join(letters[0] for letters in same).rpartition("_")[0]
        if alike and len(names) > 1:
            names = [name.removeprefix(f"{alike}_") or name for name in names]
    return [shortened(name, ROOM) for name in names]


def _drawn(name: str) -> str:
    """A name as a picture shows it: what is between two dollars would be read as a formula."""
    return name.replace("$", r"\$")


def losses_together(runs: Sequence[RunRecord], near: bool) -> str:
    """Training losses of several runs on each other; near: only where they come near to the
    baselines, of which those are drawn that are the same for all runs.
    """

    def draw(axes: Axes) -> None:
        shown: list[float] = []
        for number, (run, name) in enumerate(zip(runs, labels(runs), strict=True)):
            colour, line = COLOURS[number % len(COLOURS)], LINES[number % len(LINES)]
            x, y = thin(*run.column("lm_loss"))
            y = smooth(y)
            axes.plot(x, y, line, color=colour, linewidth=1.5, label=_drawn(name))
            shown += y
        if near:
            marks = common_marks(runs)[0]
            draw_marks(axes, marks)
            axes.set_ylim(*bounds_near(shown, [value for _, value in marks]))
        axes.set_ylabel("loss (nats a token)")
        axes.legend(fontsize=7)

    return as_svg(draw)


def validations_together(runs: Sequence[RunRecord]) -> str:
    """Validation losses of several runs."""
    return _together(runs, "validation_loss", "loss (nats a token)", marker="o")


def speeds_together(runs: Sequence[RunRecord]) -> str:
    """Tokens a second of several runs."""
    return _together(runs, "tokens_per_sec", "tokens/s")


def _together(runs: Sequence[RunRecord], key: str, what: str, **how: Any) -> str:
    def draw(axes: Axes) -> None:
        for number, (run, name) in enumerate(zip(runs, labels(runs), strict=True)):
            colour, line = COLOURS[number % len(COLOURS)], LINES[number % len(LINES)]
            curve = thin(*run.column(key))
            text, size = _drawn(name), SIZES[number % len(SIZES)]
            axes.plot(*curve, line, color=colour, linewidth=1.2, label=text, markersize=size, **how)
        if key == "tokens_per_sec":
            from_zero(axes, what)
        axes.set_ylabel(what)
        axes.legend(fontsize=7)

    return as_svg(draw)
