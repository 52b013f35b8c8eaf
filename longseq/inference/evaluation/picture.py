"""The figures of an evaluation as one SVG: against baselines, by position, by codon position."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from longseq.inference.evaluation.codons import BETWEEN, OTHER
from longseq.reports.columns import shortened
from longseq.reports.plots import BLUE, GREEN, GREY, ORANGE, STYLE, VIOLET
from longseq.reports.runs import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BITS = 1 / math.log(2)
TITLE = 84  # letters of a line that names what is drawn


def picture(figures: dict[str, Any]) -> str:
    """Two or three panels, as far as there is something to draw: the first over the others, so that
    it can be read on a telephone too. What is no number, None here, is left out.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels: list[Callable[[Axes], None]] = [
        lambda axes: _baselines(axes, figures),
        lambda axes: _positions(axes, figures),
    ]
    if any(value is not None for value in figures.get("by_codon_position", {}).values()):
        panels.append(lambda axes: _codons(axes, figures))
    with rc_context(STYLE):
        figure = Figure(figsize=(5.8, 5.7), layout="constrained")
        figure.suptitle(_title(figures), fontsize=9)
        parts: Any = figure.subfigures(2, 1)
        above, below = parts
        panels[0](above.subplots())
        for number, draw in enumerate(panels[1:], 1):
            draw(below.add_subplot(1, len(panels) - 1, number))
        text = io.StringIO()
        figure.savefig(text, format="svg", facecolor="white", metadata={"Date": None})
    return text.getvalue()


def _title(figures: dict[str, Any]) -> str:
    """Whose figures these are, of what, and of which day."""
    of = f"on {figures['evaluated']}: {figures['letters']:,} letters"
    lines = figures["checkpoint"], ", ".join(filter(None, (of, figures.get("date"))))
    return "\n".join(shortened(printable(line), TITLE).replace("$", r"\$") for line in lines)


def _baselines(axes: Axes, figures: dict[str, Any]) -> None:
    """Points from the worst to the best, the network's another in colour and form."""
    bits = {name: one for name, one in figures["bits_per_letter"].items() if one is not None}
    names = sorted(bits, key=lambda name: -float(bits[name]))
    for at, name in enumerate(names):
        colour, form = (BLUE, "D") if name == "network" else (GREY, "o")
        axes.plot(bits[name], at, form, color=colour, markersize=7)
        axes.annotate(f"{bits[name]:.3f}", (bits[name], at), (8, 0), va="center", fontsize=8,
                      textcoords="offset points")  # fmt: skip
    axes.set_yticks(range(len(names)), [textwrap.fill(name, 24) for name in names])
    axes.margins(x=0.25, y=0.1)
    axes.set_xlabel("bits a letter")
    axes.grid(axis="y", visible=False)


def _positions(axes: Axes, figures: dict[str, Any]) -> None:
    """The network's loss by how much stands before a token, with what the terminal shows behind ±;
    beside it the chosen Markov model.
    """
    bins = [one for one in figures["by_position"] if one["loss"] is not None]
    middle = [(one["from"] * one["to"]) ** 0.5 for one in bins]
    scale = BITS / figures["letters_a_token"]
    errors = [(one["error"] or 0.0) * scale for one in bins]
    if not bins:  # and so no scale for a logarithm
        axes.text(0.5, 0.5, "losses are no numbers", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    axes.errorbar(
        middle, [one["loss"] * scale for one in bins], errors,
        color=BLUE, marker="o", markersize=4, capsize=2, label="network",
    )  # fmt: skip
    if "markov" in figures:
        chosen = figures["markov"]["chosen"]
        bits = figures["markov"]["orders"][str(chosen)]
        axes.axhline(bits, color=ORANGE, linestyle="--", label=f"Markov, order {chosen}")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("tokens of context" + ("\n(± one standard error)" if any(errors) else ""))
    axes.set_ylabel("bits a letter")
    _key(axes)


def _codons(axes: Axes, figures: dict[str, Any]) -> None:
    """Points by codon position, on both strands, and between genes."""
    known = figures["by_codon_position"].items()
    found = {name: value * BITS for name, value in known if value is not None}
    strands = (("", GREEN, "o-", "this strand"), (OTHER, VIOLET, "s--", OTHER[2:]))
    for strand, colour, form, label in strands:
        names = [name for name in ("1", "2", "3") if name + strand in found]
        values = [found[name + strand] for name in names]
        axes.plot(names, values, form, color=colour, label=label)
    if BETWEEN in found:
        axes.axhline(found[BETWEEN], color=GREY, linestyle=":", linewidth=2, label=BETWEEN)
    axes.margins(x=0.15)
    low, high = min(found.values()), max(found.values())
    air = 0.08 * (high - low) or 0.05
    axes.set_ylim(low - air, high + air)
    axes.set_xlabel("codon position")
    axes.set_ylabel("bits a letter")
    _key(axes)


def _key(axes: Axes) -> None:
    """Above the panel, where no curve goes."""
    axes.legend(
        fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(-0.1, 1), borderaxespad=0,
        handlelength=1.5, columnspacing=1,
    )  # fmt: skip
