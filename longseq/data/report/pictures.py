"""The pictures of a data set's page, as SVG on a white ground."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from longseq.data.report.facts import Facts
from longseq.reports.plots import BLUE, GREEN, GREY, ORANGE, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (4.8, 3.0)  # inches; their words can be read on a telephone
BARS = 24
SPANS = 40  # of lengths
A_BAR = 0.19  # inches of height for one with its name
UNITS = ((1e6, "million "), (1e3, "thousand "))
LONGEST_NAME = 28
LETTERS = 56  # with a blank behind each name, that find room beside each other


def pictures(facts: Facts) -> list[tuple[str, str]]:
    """(title, SVG) of each that the data have something for."""
    wanted: list[tuple[str, Callable[[Axes, Facts], None], bool]] = [
        ("Lengths of records", _lengths, len(facts.lengths) > 1),
        ("GC of documents", _gc, len(facts.gc) > 1),
        ("Tokens by source", _sources, len(facts.sources) > 1),
        ("Split", _split, True),
        ("Most frequent tokens", _tokens, True),
        ("Loss weights", _weights, bool(facts.weights)),
    ]
    return [(title, _drawn(draw, facts)) for title, draw, there in wanted if there]


def _drawn(draw: Callable[[Axes, Facts], None], facts: Facts) -> str:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        width, height = SIZE
        if draw is _sources:
            height = max(height, A_BAR * min(BARS, len(facts.sources)) + 0.7)
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        axes.set_axisbelow(True)
        draw(axes, facts)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _lengths(axes: Axes, facts: Facts) -> None:
    low, high = int(facts.lengths.min()), int(facts.lengths.max())
    far = high > 10 * low  # else bars are as wide as each other on an axis that is not logarithmic
    if far:
        edges = np.unique(np.geomspace(low, high + 1, SPANS).astype(np.int64))
    else:  # as many lengths in each bar: else those with one more stand out
        width = -(-(high + 1 - low) // SPANS)
        edges = np.arange(low, high + 1 + width, width)
    axes.hist(facts.lengths, bins=edges.tolist(), color=BLUE)
    if far:
        axes.set_xscale("log")
    axes.set_xlabel("bases")
    axes.set_ylabel("records")


def _unit(most: float) -> tuple[float, str]:
    """In what an axis counts that goes up to `most`, so that its marks have few digits."""
    return next(((size, word) for size, word in UNITS if most >= size), (1.0, ""))


def _gc(axes: Axes, facts: Facts) -> None:
    heights, edges = np.histogram(100 * facts.gc, bins=50, weights=facts.letters)
    size, word = _unit(float(heights.max()))
    axes.stairs(heights / size, edges, fill=True, color=GREEN)
    whole = f"GC of all letters: {facts.gc_of_all:.1%}"
    axes.axvline(100 * facts.gc_of_all, color=ORANGE, linewidth=2, linestyle="--", label=whole)
    axes.set_xlabel("GC of a document, %")
    axes.set_ylabel(f"{word}letters")
    axes.legend(fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)


def _sources(axes: Axes, facts: Facts) -> None:
    rows = list(facts.sources.items())[:BARS]
    names = [name.rpartition("/")[2][-LONGEST_NAME:] for name, _ in rows][::-1]
    size, word = _unit(rows[0][1][2])
    axes.barh(range(len(rows)), [row[2] / size for _, row in rows][::-1], color=BLUE)
    axes.set_yticks(range(len(rows)), names, fontsize=9, parse_math=False)
    left = len(facts.sources) - len(rows)
    axes.set_xlabel(f"{word}tokens" + (f" ({left:,} more files)" if left else ""))
    axes.grid(axis="y", visible=False)


def _split(axes: Axes, facts: Facts) -> None:
    places = np.arange(len(facts.parts))
    asked = [100 * (part.asked or 0) for part in facts.parts]
    got = [100 * part.got for part in facts.parts]
    axes.bar(
        places - 0.2, asked, 0.38, color=GREY, hatch="//", edgecolor="white", label="asked for"
    )
    bars = axes.bar(places + 0.2, got, 0.38, color=BLUE, label=f"got, by {facts.split.by}")
    axes.bar_label(bars, [f"{share:.2f}%" for share in got], fontsize=9)
    axes.set_xticks(places, [part.name for part in facts.parts])
    axes.set_ylabel("% of the tokens")
    axes.legend(fontsize=9)


def _tokens(axes: Axes, facts: Facts) -> None:
    names = facts.dataset.tokenizer.names()
    shown = np.argsort(-facts.tokens, kind="stable")[:BARS]
    shown = shown[facts.tokens[shown] > 0]
    axes.bar(range(len(shown)), 100 * facts.tokens[shown] / facts.tokens.sum(), color=GREEN)
    told = [names[i] for i in shown]
    turned = 90 if sum(map(len, told)) + len(told) > LETTERS else 0
    axes.set_xticks(range(len(shown)), told, rotation=turned, fontsize=9, parse_math=False)
    axes.set_xlabel("token")
    axes.set_ylabel("% of the tokens")


def _weights(axes: Axes, facts: Facts) -> None:
    counts = np.array(list(facts.weights.values()))
    bars = axes.bar(range(len(counts)), 100 * counts / counts.sum(), color=ORANGE)
    axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize=9)
    axes.set_xticks(range(len(counts)), [f"{weight:g}" for weight in facts.weights])
    axes.set_xlabel("a token counts for")
    axes.set_ylabel("% of the tokens")
