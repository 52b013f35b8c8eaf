"""report.html: one run on one page, which needs nothing beside it; page.html.j2 is its template."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from longseq.errors import UserError
from longseq.reports import plots
from longseq.reports.format import bits_a_base, duration, number, short
from longseq.reports.runs import LAST, RunRecord

PAGE = "report.html"
LITTLE = 0.25  # GiB; of a smaller plan a share says nothing (run/peak.py)
TEMPLATE = "page.html.j2"


@dataclass(frozen=True)
class Table:
    """One of a page's, with a head."""

    title: str
    head: list[str]
    rows: list[list[str]]


def write_page(run: RunRecord) -> Path:
    """Write report.html into the run's folder; raises UserError where that cannot be written."""
    path = run.folder / PAGE
    try:
        path.write_text(page(run), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    return path


def page(run: RunRecord) -> str:
    """The HTML of one run."""
    summary = run.summary
    return render(
        name=run.folder.name,
        subtitle=_subtitle(run),
        cards=cards(run),
        pictures="Curves",
        figures=list(_figures(run)),
        by=" by iteration",
        sections=[
            ("This run", _pairs(summary.get("opening"))),
            ("How it ended", _pairs(summary.get("closing"))),
            ("The runs before", [("", text) for text in run.earlier]),
            ("An iteration's parts", _parts(run)),
            ("Damage", _damage(run)),
        ],
        details=[
            ("Settings", flat(summary.get("settings", {}))),
            ("Environment", flat(run.environment)),
        ],
        command=run.command,
    )


def render(**content: Any) -> str:
    """The template with what it names: name, subtitle, cards, the heading of the pictures, figures,
    by (what they are drawn by), sections, details and command; tables may be left out.
    """
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    return templates.get_template(TEMPLATE).render(**content)


def _subtitle(run: RunRecord) -> str:
    where = ", ".join(run.environment.get("hosts", []))
    return "  ·  ".join(filter(None, [run.environment.get("time", ""), where, str(run.folder)]))


def cards(run: RunRecord) -> list[tuple[str, str]]:
    """The figures at the top: (value, what it is)."""
    last = min(LAST, len(run.column("lm_loss")[0]))
    found = [
        (run.status, "status"),
        _loss(run, run.recent("lm_loss"), f"training loss, mean of {last} iterations"),
        _loss(run, run.last("validation_loss"), "validation loss"),
        *(_loss(run, value, f"{name} loss, without a network") for name, value in run.marks()),
        (str(run.metrics[-1]["iteration"]), "iterations"),
        (short(run.last("consumed_tokens")), "tokens"),
        (duration(run.seconds()), "in iterations"),
        (short(run.typical("tokens_per_sec")), "tokens/s"),
        (number(run.typical("model_tflops"), "{:.3g}"), "model TFLOPS a rank"),
        (number(run.typical("tflops"), "{:.3g}"), "TFLOPS by Megatron's count"),
        (number(run.last("peak_memory_gib"), "{:.2f} GiB"), "peak memory of rank 0"),
        (_against_plan(run), "of what was planned, in the first steps"),
        (run.slowest_rank(), "slowest rank over the others, alone"),
    ]
    return [card for card in found if card[0]]


def _loss(run: RunRecord, nats: float | None, what: str) -> tuple[str, str]:
    """Nats a token; bits a base in what it is called, where tokens are of bases."""
    if nats is None:
        return "", what
    bits = f" ({bits_a_base(nats, run.bases):.3f} bits a base)" if run.bases else ""
    return f"{nats:.4f}", what + bits


def _against_plan(run: RunRecord) -> str:
    """`97% of 3.10 GiB`; empty where the run was not held to a plan."""
    planned, measured = run.last("planned_memory_gib"), run.last("measured_memory_gib")
    if not planned or not measured or planned < LITTLE:
        return ""
    return f"{measured / planned:.0%} of {planned:.2f} GiB"


def _figures(run: RunRecord) -> Iterable[tuple[str, str]]:
    """(title, the SVG in base64) of each picture."""
    pictures = (
        ("Loss", plots.loss_plot),
        ("Loss beside what knows no network", plots.near_marks_plot),
        ("Throughput", plots.speed_plot),
        ("Parts of an iteration", plots.parts_plot),
        ("Arithmetic", plots.tflops_plot),
        ("Memory", plots.memory_plot),
        ("Gradient norm", plots.gradient_plot),
        ("Learning rate", plots.rate_plot),
    )
    for title, draw in pictures:
        yield title, base64.b64encode(draw(run).encode()).decode()


def _parts(run: RunRecord) -> list[tuple[str, str]]:
    """Median seconds of each part of an iteration, and how much of it that is."""
    whole = run.typical("iteration_time")
    parts = {name: run.typical(f"{name}_seconds") for name in plots.PARTS}
    if not whole or None in parts.values():
        return []
    return [(name, f"{took:.3g} s, {took / whole:.1%}") for name, took in parts.items() if took]


def _damage(run: RunRecord) -> list[tuple[str, str]]:
    """What of the run's files cannot be used."""
    if not run.lost:
        return []
    return [("metrics.jsonl", f"{run.lost} of its lines cannot be read and are left out")]


def _pairs(rows: Any) -> list[tuple[str, str]]:
    return [(str(row[0]), str(row[1])) for row in rows or [] if len(row) == 2]


def flat(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (name.of.value, value) rows."""
    if not isinstance(tree, dict):
        text = ", ".join(map(str, tree)) if isinstance(tree, list) else str(tree)
        return [(prefix, text)]
    rows = []
    for key, value in tree.items():
        rows += flat(value, f"{prefix}.{key}" if prefix else str(key))
    return rows
