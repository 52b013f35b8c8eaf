"""The published forms as pictures, SVG and PNG, and on one page."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longseq.bench import published
from longseq.bench.kept import OK, OOM, Result
from longseq.bench.longest import planned_longest, span_of
from longseq.bench.tables import curves, tokens
from longseq.host.atomic_files import replace_file
from longseq.reports.page import render
from longseq.reports.plots import BLUE, GREEN, INK, ORANGE, STYLE, VIOLET
from longseq.reports.sections import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (BLUE, ORANGE, GREEN, VIOLET, INK, "#b5403c", "#3b9bb3", "#8a6d3b")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SYSTEMS = {  # as docs/pictures/lengths.py draws them
    "old Megatron-DeepSpeed": (ORANGE, "s"),
    "Megatron-LM": (GREEN, "^"),
    "new Megatron-DeepSpeed": (INK, "D"),
    published.AS_THEN: (VIOLET, "v"),
    published.BEST: (BLUE, "o"),
}
SIZE = (4.8, 3.9)  # inches of a panel, whose words can be read on a telephone
ROWS, ROW = 4, 0.17  # of the key, for which there is room in that; inches of one more
LONG = 28  # letters of a name that has a line of the key for itself
FOOT = 0.045  # of a panel's height: where a cross stands that is of no height
Panel = tuple[str, Callable[["Axes"], None]]  # its title, and what draws it


def panels_of(
    results: Sequence[Result],
    longest: bool,
    planned: published.Curves | None,
    memory_gib: float = 0.0,
) -> list[Panel]:
    """What the one form or the other is drawn with.

    planned: ours, to stand beside what was published; None: leave that out. memory_gib: of a rank,
    for which the longest sequences are estimated beside those that ran; 0: they are not.
    """
    measured = partial(_measured_reach, memory_gib=memory_gib) if longest else _measured_speed
    theirs = _published_reach if longest else _published_speed
    limit = f", {memory_gib:g} GiB a rank" if longest and memory_gib else ""
    panels: list[Panel] = [(f"measured here{limit}", lambda axes: measured(axes, results))]
    if planned is not None:
        title = "published: 25B" + ("" if longest else " on 32 A100 of 40 GB")
        panels.append((title, lambda axes: theirs(axes, planned)))
    return panels


def draw(folder: Path, longest: bool, panels: Sequence[Panel]) -> list[Path]:
    """The panels on each other, as SVG and PNG; returns their paths."""
    stem = folder / ("longest" if longest else "tflops")
    paths = [stem.with_suffix(".svg"), stem.with_suffix(".png")]
    replace_file(paths[0], _drawn(panels, titles=True, png=paths[1]))
    return paths


def _drawn(panels: Sequence[Panel], titles: bool, png: Path | None = None) -> str:
    """One below the other as SVG, in a PNG too."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        width, height = SIZE[0], SIZE[1] * len(panels)
        figure = Figure(layout="constrained")
        each = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axes, (title, panel) in zip(each, panels, strict=True):
            panel(axes)
            axes.set_title(title if titles else "", fontsize=10)
            handles, names = axes.get_legend_handles_labels()
            if handles:  # below, where no curve goes
                columns = 1 if max(map(len, names)) > LONG else 2
                height += ROW * max(0, -(-len(names) // columns) - ROWS)
                axes.legend(
                    handles, names, fontsize=8, ncols=columns, loc="upper center",
                    bbox_to_anchor=(0.45, -0.17), borderaxespad=0,
                )  # fmt: skip
        figure.set_size_inches(width, height)
        text = io.StringIO()
        figure.savefig(text, format="svg", facecolor="white", metadata={"Date": None})
        if png is not None:
            figure.savefig(png, dpi=150, facecolor="white")
    return text.getvalue()


def _out_of_memory(axes: Axes, curves: Sequence[tuple[str, Sequence[int]]]) -> None:
    """A cross at the foot where the first length of each did not fit, in the curve's colour; and
    what a cross is.
    """
    crosses = [(lengths[0], colour) for colour, lengths in curves if lengths]
    how: Any = {"linestyle": "", "marker": "x", "markersize": 9, "markeredgewidth": 2.2}
    foot = axes.get_xaxis_transform()
    for at, colour in crosses:
        axes.plot(at, FOOT, color=colour, transform=foot, clip_on=False, zorder=3, **how)
    if crosses:
        axes.plot([], [], color=INK, label="out of memory", **how)


def _styles() -> Iterator[tuple[str, str]]:
    """Colours and markers, of which no two curves have the same, as far as these go."""
    for number in itertools.count():
        turn, colour = divmod(number, len(COLOURS))
        yield COLOURS[colour], MARKERS[(colour + turn) % len(MARKERS)]


def _lengths(axes: Axes, known: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(set(known)), [tokens(n) for n in sorted(set(known))])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("sequence length (tokens)")


def _measured_speed(axes: Axes, results: Sequence[Result]) -> None:
    """A curve for each layout; a cross at the foot where the first one ran out of memory."""
    failed = []
    for (name, curve), (colour, marker) in zip(curves(results).items(), _styles(), strict=False):
        ran = [one for one in curve if one.outcome == OK]
        at = [one.length for one in ran]
        both: list[tuple[str, list[Any], str]] = [
            ("-", [one.tflops for one in ran], name),
            (":", [one.model_tflops for one in ran], ""),
        ]
        for line, values, label in both:
            axes.plot(at, values, line, color=colour, marker=marker, markersize=4, label=label)
        failed.append((colour, [one.length for one in curve if one.outcome == OOM]))
    _out_of_memory(axes, failed)
    _lengths(axes, [one.length for one in results])
    axes.set_ylim(0, None)
    axes.set_ylabel("TFLOPS a rank (dotted: model FLOPs)")


def _published_speed(axes: Axes, planned: published.Curves) -> None:
    rows, failed = published.TFLOPS | planned, []
    for name, row in rows.items():
        ran = {length: value for length, value in row.items() if value is not None}
        _of_system(axes, name, ran)
        failed.append((SYSTEMS[name][0], [n for n, value in row.items() if value is None]))
    _out_of_memory(axes, failed)
    _lengths(axes, list(published.TFLOPS["new Megatron-DeepSpeed"]))
    axes.set_ylim(0, None)
    axes.set_ylabel("TFLOPS a GPU, Megatron's count")


def _of_system(axes: Axes, name: str, values: Mapping[int, float]) -> None:
    colour, marker = SYSTEMS[name]
    line = "--" if name in (published.AS_THEN, published.BEST) else "-"
    axes.plot(
        list(values), list(values.values()), line, color=colour, marker=marker, markersize=5,
        label=name,
    )  # fmt: skip


def _measured_reach(axes: Axes, results: Sequence[Result], memory_gib: float) -> None:
    """The longest by ranks, a line for each axis that the ranks go to: those that ran, and dashed
    where the estimate of memory ends.
    """
    found: dict[str, dict[str, dict[int, tuple[int, int | None]]]] = {}  # by network and kernel
    for name, curve in curves(results).items():
        layout, ranks = curve[0].layout, curve[0].ranks
        lines = found.setdefault(name.removeprefix(layout), {})
        axis = re.sub(r"\d", "", layout)
        if ranks in lines.get(axis, ()):  # tp4 x ring2 beside tp2 x ring4
            axis = layout
        lines.setdefault(axis, {})[ranks] = span_of(curve)[0], planned_longest(curve, memory_gib)
    styles = _styles()
    for of, lines in found.items():
        alone = lines.pop(" rank", {})  # where all of these lines begin
        for axis, own in (lines or {"1 rank": {}}).items():
            colour, marker = next(styles)
            for place, (line, size, more) in enumerate((("-", 6, ""), ("--", 3, ", planned"))):
                both = {n: pair[place] for n, pair in sorted((alone | own).items())}
                known = {n: length for n, length in both.items() if length is not None}
                if known:
                    axes.plot(
                        list(known), list(known.values()), line, color=colour, marker=marker,
                        markersize=size, label=axis + of + more,
                    )  # fmt: skip
    _by_ranks(axes, sorted({one.ranks for one in results}), "ranks")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda count, _place: tokens(round(count)))
    axes.set_ylabel("longest sequence (tokens)")


def _published_reach(axes: Axes, planned: published.Curves) -> None:
    rows: dict[str, Mapping[int, float | None]] = {**published.LONGEST, **planned}
    for name, row in rows.items():
        _of_system(axes, name, {gpus: value for gpus, value in row.items() if value is not None})
    _by_ranks(axes, [32, 64, 128], "A100 of 40 GB")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylabel("longest sequence (thousand tokens)")


def _by_ranks(axes: Axes, ranks: Sequence[int], what: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [str(n) for n in ranks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(what)


def write_page(
    folder: Path, panels: Sequence[Panel], shown: Sequence[Table], request: dict[str, Any]
) -> Path:
    """bench.html, which needs nothing beside it."""
    results = folder / "results.jsonl"
    ended = datetime.fromtimestamp(results.stat().st_mtime) if results.exists() else None
    when = f"{ended:%Y-%m-%d %H:%M}  ·  " if ended else ""
    text = render(
        name=f"longseq bench: {folder.name}",
        subtitle=f"{when}{folder.absolute()}",
        cards=[],
        pictures="Pictures",
        drawn=[
            (title[:1].upper() + title[1:], "", _drawn([(title, panel)], titles=False))
            for title, panel in panels
        ],
        by="",
        tables=shown,
        sections=[("What every case had in common", _common(request))],
        details=[],
        command="",
    )
    replace_file(folder / "bench.html", text)
    return folder / "bench.html"


def _common(request: dict[str, Any]) -> list[tuple[str, str]]:
    """The request in words."""
    gib = float(request["memory_gib"])
    variables = " ".join(f"{name}={value}" for name, value in request["variables"].items())
    return [
        ("longseq", request["longseq"] or "not known"),
        ("steps that count", f"{request['steps']}, after one that does not"),
        ("memory of a rank", f"{gib:g} GiB" if gib else "what there is"),
        ("arguments behind --", " ".join(request["arguments"]) or "none"),
        ("variables", variables or "none"),
        ("machine", ", ".join(request["machine"])),
    ]
