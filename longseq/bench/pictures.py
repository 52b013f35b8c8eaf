"""The published forms as pictures, SVG and PNG, and on one page."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longseq.bench import published
from longseq.bench.kept import OK, OOM, Result
from longseq.bench.longest import planned_longest, span_of
from longseq.bench.tables import curves, tokens
from longseq.host.atomic_files import replace_file
from longseq.reports.page import render
from longseq.reports.plots import BLUE, FAINT, GREEN, INK, ORANGE, STYLE, VIOLET
from longseq.reports.sections import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (BLUE, ORANGE, GREEN, VIOLET, INK, "#b5403c", "#3b9bb3", "#8a6d3b")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def draw(
    folder: Path,
    results: Sequence[Result],
    longest: bool,
    planned: published.Curves | None,
    memory_gib: float = 0.0,
) -> list[Path]:
    """The picture of the one form or the other; returns the paths of SVG and PNG.

    planned: ours, to stand beside what was published; None: leave that out. memory_gib: of a rank,
    for which the longest sequences are estimated beside those that ran; 0: they are not.
    """
    measured = partial(_measured_reach, memory_gib=memory_gib) if longest else _measured_speed
    theirs = _published_reach if longest else _published_speed
    name = "longest" if longest else "tflops"
    panels: list[Callable[[Axes], None]] = [lambda axes: measured(axes, results)]
    if planned is not None:
        panels.append(lambda axes: theirs(axes, planned))
    return _save(folder / name, panels)


def _save(stem: Path, panels: Sequence[Callable[[Axes], None]]) -> list[Path]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    paths = [stem.with_suffix(".svg"), stem.with_suffix(".png")]
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4 * len(panels), 4.2), layout="constrained")
        for axes, panel in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            panel(axes)
            handles, names = axes.get_legend_handles_labels()
            if handles:
                axes.legend(handles, names, fontsize=8)
        text = io.StringIO()
        figure.savefig(text, format="svg", facecolor="white", metadata={"Date": None})
        replace_file(paths[0], text.getvalue())
        figure.savefig(paths[1], dpi=150, facecolor="white")
    return paths


def _out_of_memory(axes: Axes, lengths: Sequence[int], colour: str) -> None:
    """A cross at the foot where the first one did not fit."""
    if lengths:
        axes.plot(lengths[0], 0, "x", color=colour, markersize=8)


def _lengths(axes: Axes, known: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(set(known)), [tokens(n) for n in sorted(set(known))])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("sequence length (tokens)")


def _measured_speed(axes: Axes, results: Sequence[Result]) -> None:
    """A curve for each layout; a cross at the foot where the first one ran out of memory."""
    styles = zip(COLOURS, MARKERS, strict=True)
    for (name, curve), (colour, marker) in zip(curves(results).items(), styles, strict=False):
        ran = [one for one in curve if one.outcome == OK]
        at = [one.length for one in ran]
        both: list[tuple[str, list[Any], str]] = [
            ("-", [one.tflops for one in ran], name),
            (":", [one.model_tflops for one in ran], ""),
        ]
        for line, values, label in both:
            axes.plot(at, values, line, color=colour, marker=marker, markersize=4, label=label)
        _out_of_memory(axes, [one.length for one in curve if one.outcome == OOM], colour)
    _lengths(axes, [one.length for one in results])
    axes.set_ylim(0, None)
    axes.set_ylabel("TFLOPS a rank (dotted: model FLOPs)")
    axes.set_title("measured here (x: out of memory)", fontsize=10)


def _published_speed(axes: Axes, planned: published.Curves) -> None:
    rows = published.TFLOPS | planned
    for (name, row), colour in zip(rows.items(), (FAINT, INK, VIOLET, BLUE), strict=True):
        ran = {length: value for length, value in row.items() if value is not None}
        line = "--" if name in planned else "-"
        axes.plot(
            list(ran), list(ran.values()), line, color=colour, marker="o", markersize=4, label=name
        )
        _out_of_memory(axes, [length for length, value in row.items() if value is None], colour)
    _lengths(axes, list(published.TFLOPS["new Megatron-DeepSpeed"]))
    axes.set_ylim(0, None)
    axes.set_ylabel("TFLOPS a GPU, Megatron's count")
    axes.set_title("published: 25B on 32 A100 of 40 GB", fontsize=10)


def _measured_reach(axes: Axes, results: Sequence[Result], memory_gib: float) -> None:
    """The longest by ranks, a line for each axis that the ranks go to: those that ran, and dashed
    where the estimate of memory ends.
    """
    ran: dict[str, dict[int, int]] = {}
    planned: dict[str, dict[int, int]] = {}
    for curve in curves(results).values():
        family = "".join(letter for letter in curve[0].layout if not letter.isdigit())
        ran.setdefault(family, {})[curve[0].ranks] = span_of(curve)[0]
        estimate = planned_longest(curve, memory_gib)
        if estimate is not None:
            planned.setdefault(family, {})[curve[0].ranks] = estimate
    alone = {"-": ran.pop(" rank", {}), "--": planned.pop(" rank", {})}
    styles = zip(COLOURS, MARKERS, strict=True)
    for name, (colour, marker) in zip(ran or {"1 rank": {}}, styles, strict=False):
        for style, lines in (("-", ran), ("--", planned)):
            both = dict(sorted((alone[style] | lines.get(name, {})).items()))
            label = name if style == "-" else f"{name}, planned"
            if both:
                axes.plot(
                    list(both),
                    list(both.values()),
                    style,
                    color=colour,
                    marker=marker,
                    markersize=6 if style == "-" else 3,
                    label=label,
                )
    _by_ranks(axes, sorted({one.ranks for one in results}), "ranks")
    axes.set_ylabel("longest sequence (tokens)")
    limit = f", {memory_gib:g} GiB a rank" if memory_gib else ""
    axes.set_title(f"measured here{limit}", fontsize=10)


def _published_reach(axes: Axes, planned: published.Curves) -> None:
    rows: dict[str, Mapping[int, float | None]] = {**published.LONGEST, **planned}
    for (name, row), colour in zip(rows.items(), (FAINT, ORANGE, INK, BLUE), strict=True):
        line = "--" if name in planned else "-"
        ran = {gpus: value for gpus, value in row.items() if value is not None}
        axes.plot(list(ran), list(ran.values()), line, color=colour, marker="o", label=name)
    _by_ranks(axes, [32, 64, 128], "A100 of 40 GB")
    axes.set_ylabel("longest sequence (thousand tokens)")
    axes.set_title("published: 25B", fontsize=10)


def _by_ranks(axes: Axes, ranks: Sequence[int], what: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(ranks, [str(n) for n in ranks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(what)


def write_page(
    folder: Path, pictures: Sequence[Path], shown: Sequence[Table], request: dict[str, Any]
) -> Path:
    """bench.html, which needs nothing beside it."""
    svgs = [path for path in pictures if path.suffix == ".svg"]
    text = render(
        name=f"longseq bench: {folder.name}",
        subtitle=str(folder.absolute()),
        cards=[],
        pictures="Pictures",
        drawn=[(path.stem, "", path.read_text(encoding="utf-8")) for path in svgs],
        by="",
        tables=shown,
        sections=[("What every case had in common", [(k, str(v)) for k, v in request.items()])],
        details=[],
        command="",
    )
    replace_file(folder / "bench.html", text)
    return folder / "bench.html"
