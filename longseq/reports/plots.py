"""The curves of a run as SVG pictures, which a page shows without JavaScript (curves.py: with)."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from longseq.reports.runs import RunRecord, finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

INK, GRID, FAINT, GREY = "#2b2f36", "#e6e8ec", "#9aa3af", "#6b7480"  # GREY: of what is data
BLUE, ORANGE, GREEN, VIOLET = "#2f6fdb", "#e07a1f", "#2a9d6e", "#7a5cc4"
PARTS = ("data", "forward", "backward", "update")  # of an iteration, as in metrics.jsonl
HATCHES = ("...", "//", "\\\\", "--")  # of their areas, told apart without colour
FEW = 50  # values that are drawn as they are
MARK_LINES = ("--", "-.", ":")  # of the marks, as many as a run has
POINTS = 600  # more than these are averaged: a page of a long run stays small
STYLE: Any = {  # of matplotlib
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,  # no grid through what is filled
    "grid.color": GRID,
    "legend.frameon": False,
}


def thin(
    xs: Sequence[float], ys: Sequence[float], points: int = POINTS
) -> tuple[list[float], list[float]]:
    """At most about `points` points: the means of equal runs of neighbours, of those that are
    numbers.
    """
    size = -(-len(xs) // points) if xs else 1
    starts = range(0, len(xs), size)
    return [_mean(xs[i : i + size]) for i in starts], [_mean(ys[i : i + size]) for i in starts]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def curve(run: RunRecord, key: str) -> tuple[list[float], list[float]]:
    """A metric of each iteration, thinned; nan where it was no number: no line goes through."""
    records = run.history + run.metrics
    values = [record.get(key) for record in records]
    known = [float(value) if finite(value) else math.nan for value in values]
    return thin([record["iteration"] for record in records], known)


def smooth(values: Sequence[float]) -> list[float]:
    """Each value by a parabola through its neighbours, a 20th of all: no lag where a curve falls,
    nor at its ends (Savitzky and Golay, Analytical Chemistry 36, 1964). A spike of a few values
    bends nothing, as each stands for the median of those around it. A few stay as they are.
    """
    import numpy as np

    if len(values) <= FEW:
        return list(values)
    values = [_median_around(values, at) for at in range(len(values))]
    half = max(2, len(values) // 40)
    places = np.vander(np.arange(-half, half + 1), 3)
    fitted = places @ np.linalg.pinv(places)  # a window of values to its parabola
    ends = np.array(values[: 2 * half + 1]), np.array(values[-2 * half - 1 :])
    inner = np.convolve(values, fitted[half][::-1], "valid")
    first, last = fitted[:half] @ ends[0], fitted[half + 1 :] @ ends[1]
    return [float(value) for value in np.concatenate((first, inner, last))]


def _median_around(values: Sequence[float], at: int) -> float:
    """Of as many on each side, so that a slope stays what it is."""
    reach = min(3, at, len(values) - 1 - at)
    return statistics.median(values[at - reach : at + reach + 1])


def loss_plot(run: RunRecord) -> str:
    """Training and validation loss, from the first iteration on."""

    def draw(axes: Axes) -> None:
        _losses(axes, run)
        axes.legend()

    return as_svg(draw)


def near_marks_plot(run: RunRecord) -> str:
    """The same, where it comes near to the baselines: frequencies and Markov models."""

    def draw(axes: Axes) -> None:
        losses = _losses(axes, run)
        marks = run.marks()
        draw_marks(axes, marks)
        axes.set_ylim(*bounds_near(losses, [value for _, value in marks]))
        axes.legend()

    return as_svg(draw)


def draw_marks(axes: Axes, marks: Sequence[tuple[str, float]]) -> None:
    """A line across for each, whatever there are; beyond MARK_LINES fainter ones."""
    for n, (name, value) in enumerate(marks):
        again, line = divmod(n, len(MARK_LINES))
        how: Any = {"linestyle": MARK_LINES[line], "alpha": 0.4 if again else 1.0}
        axes.axhline(value, color=INK, linewidth=1.2, label=name, **how)


def bounds_near(losses: Sequence[float], marks: Sequence[float]) -> tuple[float, float]:
    """Bounds that hold the marks and the better half of the losses, with some air."""
    shown = sorted(losses)[: max(1, len(losses) // 2)] + list(marks)
    low, high = min(shown, default=0.0), max(shown, default=1.0)
    air = 0.15 * (high - low) or 0.05 * abs(high) or 0.05
    return low - air, high + air


def _losses(axes: Axes, run: RunRecord) -> list[float]:
    """Draw the loss of training, drawn through by its local mean, and of validation."""
    (x, y), line = thin(*run.column("lm_loss")), curve(run, "lm_loss")
    if len(y) > FEW:
        axes.plot(*line, color=BLUE, alpha=0.25, linewidth=0.8)
        y = smooth(y)
        line = x, y
    axes.plot(*line, color=BLUE, linewidth=1.8, label="training")
    vx, vy = run.column("validation_loss")
    axes.plot(vx, vy, color=ORANGE, marker="o", markersize=4, linewidth=1.5, label="validation")
    if run.history:
        axes.axvline(run.metrics[0]["iteration"], color=FAINT, linewidth=1.0, label="went on")
    axes.set_ylabel("loss (nats a token)")
    if bases := run.bases:
        bits = math.log(2) * bases  # nats of one bit a base

        def to_bits(nats: Any) -> Any:
            return nats / bits

        def to_nats(base: Any) -> Any:
            return base * bits

        other = axes.secondary_yaxis("right", functions=(to_bits, to_nats))
        other.set_ylabel("bits per base")
    return y + vy


def speed_plot(run: RunRecord) -> str:
    """Tokens a second."""

    def draw(axes: Axes) -> None:
        axes.plot(*curve(run, "tokens_per_sec"), color=GREEN, linewidth=1.4)
        from_zero(axes, "tokens/s")

    return as_svg(draw)


def parts_plot(run: RunRecord) -> str:
    """Seconds of an iteration, one part on the other; what is above them is none of these."""

    def draw(axes: Axes) -> None:
        columns = [run.column(f"{part}_seconds") for part in PARTS]
        if all(columns) and len({len(xs) for xs, _ in columns}) == 1 and columns[0][0]:
            xs = thin(*columns[0])[0]
            heights = [thin(*column)[1] for column in columns]
            colours = (BLUE, ORANGE, GREEN, VIOLET)  # as curves.js has them
            areas = axes.stackplot(xs, *heights, labels=PARTS, colors=colours, edgecolor="#ffffff")
            for area, hatch in zip(areas, HATCHES, strict=True):
                area.set(hatch=hatch, linewidth=0)
        axes.plot(*curve(run, "iteration_time"), color=INK, linewidth=0.8, label="whole iteration")
        from_zero(axes, "seconds")
        axes.legend(ncols=3, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)

    return as_svg(draw)


def tflops_plot(run: RunRecord) -> str:
    """TFLOPS a rank, counted both ways."""

    def draw(axes: Axes) -> None:
        axes.plot(*curve(run, "tflops"), "--", color=GREY, linewidth=1.4, label="Megatron's count")
        axes.plot(*curve(run, "model_tflops"), color=GREEN, linewidth=1.4, label="model FLOPs")
        from_zero(axes, "TFLOPS a rank")
        axes.legend()

    return as_svg(draw)


def memory_plot(run: RunRecord) -> str:
    """Peak memory of rank 0."""

    def draw(axes: Axes) -> None:
        axes.plot(*curve(run, "peak_memory_gib"), color=VIOLET, linewidth=1.6)
        from_zero(axes, "peak memory (GiB)")

    return as_svg(draw)


def place_plot(run: RunRecord) -> str:
    """The validation loss by the number of tokens before, at the first, middle and last one."""

    def draw(axes: Axes) -> None:
        for (at, places), colour in zip(
            run.by_place().items(), (FAINT, ORANGE, BLUE), strict=False
        ):
            axes.plot(
                *zip(*places, strict=True), marker="o", color=colour, label=f"iteration {at:,}"
            )
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda tokens, _: f"{tokens:,.0f}")
        axes.set_ylabel("loss (nats a token)")
        axes.legend()

    return as_svg(draw, "tokens before, at most")


def gradient_plot(run: RunRecord) -> str:
    """Norm of the gradients, before clipping."""

    def draw(axes: Axes) -> None:
        axes.plot(*curve(run, "grad_norm"), color=INK, linewidth=1.0)
        from_zero(axes, "gradient norm")

    return as_svg(draw)


def rate_plot(run: RunRecord) -> str:
    """Learning rate."""

    def draw(axes: Axes) -> None:
        axes.plot(*curve(run, "learning_rate"), color=ORANGE, linewidth=1.6)
        from_zero(axes, "learning rate")
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))

    return as_svg(draw)


def from_zero(axes: Axes, label: str) -> None:
    """A scale from zero, with some air above the highest point."""
    axes.set_ylabel(label)
    top = axes.dataLim.y1  # -inf where nothing is drawn
    axes.set_ylim(0, 1.15 * top if top > 0 else 1)


def as_svg(draw: Callable[[Axes], None], across: str = "iteration") -> str:
    """What `draw` puts into one panel, by what is counted `across`."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.1), layout="constrained")
        axes = figure.add_subplot()
        axes.margins(x=0.02)
        draw(axes)
        if across == "iteration":
            axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        for line in axes.lines:
            _dot_what_is_alone(line)
        axes.set_xlabel(across)
        picture = io.StringIO()
        figure.savefig(picture, format="svg", facecolor="white", metadata={"Date": None})
    return picture.getvalue()


def _dot_what_is_alone(line: Line2D) -> None:
    """Of a curve: values between two that are none, which no line reaches."""
    import numpy as np

    known = np.isfinite(np.asarray(line.get_ydata(), dtype=float))
    beside = np.pad(known, 1)
    lone = np.flatnonzero(known & ~beside[:-2] & ~beside[2:])
    if len(lone) and line.get_marker() == "None":
        line.set(marker="o", markersize=4, markevery=lone.tolist())


PICTURES: dict[str, Callable[[RunRecord], str]] = {  # by the titles of curves.py
    "Loss": loss_plot,
    "Loss beside the baselines": near_marks_plot,
    "Validation loss by place in the sequence": place_plot,
    "Throughput": speed_plot,
    "Parts of an iteration": parts_plot,
    "Arithmetic": tflops_plot,
    "Memory": memory_plot,
    "Gradient norm": gradient_plot,
    "Learning rate": rate_plot,
}
