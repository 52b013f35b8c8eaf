"""report.html: one run on one page, which needs nothing beside it.

web/page.html.j2 is its template, web/page.css its looks, web/curves.js and uPlot (web/uplot, as
released, MIT) its curves. The page says itself that no other script may run, and nothing be loaded.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from longseq.host.atomic_files import Sha256, reason, replace_file, unwritable
from longseq.reports import curves, plots, sections
from longseq.reports.format import bits_a_base, counted, duration, number, short
from longseq.reports.runs import RunRecord
from longseq.reports.sections import flat, pairs

PAGE = "report.html"
LITTLE = 0.25  # GiB; of a smaller plan a share says nothing (run/peak.py)
DARK = {  # a light page's colour → a dark one's
    "#ffffff": "#1e2126",
    plots.INK: "#e6e8ec",
    plots.GRID: "#353a43",
    plots.FAINT: "#7d8593",
    plots.GREY: "#a7aeba",
    plots.BLUE: "#7aa7ff",
    plots.ORANGE: "#f0a155",
    plots.GREEN: "#5ec79b",
    plots.VIOLET: "#b8a1f5",
    "#b5403c": "#f28b88",
    "#3b9bb3": "#62c4da",
    "#8a6d3b": "#d1b277",
}
WEB = Path(__file__).parent / "web"


def write_page(run: RunRecord) -> Path:
    """Write report.html into the run's folder; raises UserError where that cannot be written, and
    the page of before stays.
    """
    path = run.folder / PAGE
    try:
        replace_file(path, page(run))
    except OSError as error:
        raise unwritable(f"{path} cannot be written: {reason(error)}", error) from None
    return path


def page(run: RunRecord) -> str:
    """The HTML of one run."""
    summary = run.summary
    content = curves.one_run(run)
    return render(
        name=run.folder.name,
        status=run.status,
        subtitle=_subtitle(run),
        cards=cards(run),
        pictures="Curves",
        drawn=[(c["title"], c["unit"], plots.PICTURES[c["title"]](run)) for c in content["charts"]],
        by=" by iteration",
        content=content,
        values=[sections.values(run, content)],
        sections=[
            ("This run", sections.opening(run)),
            ("How it ended", pairs(summary.get("closing"))),
            ("What happened", sections.happened(run)),
            ("Where the time goes", sections.parts(run)),
            ("Memory of a rank", sections.memory(run)),
            ("Ranks", sections.ranks(run)),
            ("Data", sections.data(run)),
            ("Damage", sections.damage(run)),
        ],
        details=[
            ("Settings", flat(summary.get("settings", {}))),
            ("Environment", flat(run.environment)),
        ],
        command=run.command,
    )


def render(
    drawn: Iterable[tuple[str, str, str]], content: dict[str, Any] | None = None, **more: Any
) -> str:
    """The template with what it names: name, subtitle, cards, pictures (their heading), by (what
    they are drawn by), sections, details and command; status, tables and values may be left out.

    drawn: (title, unit, SVG) of each picture. content: of curves.py, a chart for each picture.
    """
    templates = Environment(loader=FileSystemLoader(WEB), autoescape=True)
    figures = [(title, unit, _encoded(_in_both_themes(svg))) for title, unit, svg in drawn]
    files = ("uplot/uPlot.iife.min.js", "curves.js") if content else ()
    scripts = [(WEB / file).read_text(encoding="utf-8") for file in files]
    css = [(WEB / file).read_text(encoding="utf-8") for file in ("uplot/uPlot.min.css", "page.css")]
    return templates.get_template("page.html.j2").render(
        figures=figures,
        numbers=curves.as_json(content) if content else "",
        scripts=scripts,
        css="\n".join(css),
        policy=_policy(scripts),
        **more,
    )


def _in_both_themes(svg: str) -> str:
    """The picture, with other colours where the page around it is dark."""
    used = {light: f"--{light[1:]}" for light in DARK if light in svg}
    for light, name in used.items():
        svg = svg.replace(light, f"var({name})")
    rules = [
        f"svg{{{';'.join(f'{name}:{colours[light]}' for light, name in used.items())}}}"
        for colours in ({light: light for light in used}, DARK)
    ]
    style = f"<style>{rules[0]}@media screen and (prefers-color-scheme:dark){{{rules[1]}}}</style>"
    return svg.replace("<defs>", f"{style}<defs>", 1)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _policy(scripts: Iterable[str]) -> str:
    """What a browser lets this page do: run these scripts, and load nothing."""
    sums = [base64.b64encode(Sha256(text.encode()).digest()).decode() for text in scripts]
    run = " ".join(f"'sha256-{digest}'" for digest in sums) or "'none'"
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {run}"


def _subtitle(run: RunRecord) -> str:
    hosts = run.environment.get("hosts")
    where = ", ".join(map(str, hosts)) if isinstance(hosts, list) else ""
    when = str(run.environment.get("time", ""))
    return "  ·  ".join(filter(None, [when, where, str(run.folder)]))


def cards(run: RunRecord) -> list[tuple[str, str]]:
    """The figures at the top: (value, what it is)."""
    mean, last = run.training_loss()
    slowest, said = sections.slowest_rank(run)
    found = [
        _loss(
            run,
            mean,
            f"training loss, mean of {counted(last, 'iteration')}{_until(run, 'lm_loss')}",
        ),
        _loss(run, run.last("validation_loss"), f"validation loss{_until(run, 'validation_loss')}"),
        *(_loss(run, value, f"loss of a baseline: {name}") for name, value in run.marks()),
        (f"{run.metrics[-1]['iteration']:,}", "iterations"),
        (short(run.last("consumed_tokens")), "tokens"),
        (duration(run.seconds()), "in this run's iterations"),
        (short(run.typical("tokens_per_sec")), "tokens/s, median of the iterations"),
        (number(run.typical("model_tflops"), "{:.3g}"), "model TFLOPS a rank"),
        sections.utilization(run),
        (number(run.typical("tflops"), "{:.3g}"), "TFLOPS by Megatron's count"),
        (number(run.last("peak_memory_gib"), "{:.2f} GiB"), "peak memory of rank 0"),
        (_against_plan(run), "of what was planned, in the first steps"),
        (slowest, f"the slowest rank's time over the others': {said}"),
    ]
    return [card for card in found if card[0]]


def _until(run: RunRecord, key: str) -> str:
    """Up to where a loss is known, if that is not where the run is: it may be no number since."""
    known = run.column(key)[0]
    told = [record["iteration"] for record in run.metrics if key in record]
    late = bool(known) and bool(told) and known[-1] < told[-1]
    return f" up to iteration {known[-1]:,}, none is a number since" if late else ""


def _loss(run: RunRecord, nats: float | None, what: str) -> tuple[str, str]:
    """Nats a token; bits per base in what it is called, where tokens are of bases."""
    if nats is None:
        return "", what
    bits = f" ({bits_a_base(nats, run.bases):.3f} bits per base)" if run.bases else ""
    return f"{nats:.4f}", what + bits


def _against_plan(run: RunRecord) -> str:
    """`97% of 3.10 GiB`; empty where the run was not held to a plan."""
    planned, measured = run.last("planned_memory_gib"), run.last("measured_memory_gib")
    if not planned or not measured or planned < LITTLE:
        return ""
    return f"{measured / planned:.0%} of {planned:.2f} GiB"
