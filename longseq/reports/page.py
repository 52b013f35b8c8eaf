"""report.html: one run on one page, which needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from longseq.errors import UserError
from longseq.reports import plots
from longseq.reports.format import duration, number, short
from longseq.reports.runs import RunRecord

PAGE = "report.html"

STYLE = """
:root { color-scheme: light; --ink: #2b2f36; --faint: #6b7280; --line: #e6e8ec; --blue: #2f6fdb; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: #f6f7f9; margin: 0; }
main { max-width: 76rem; margin: 0 auto; padding: 2rem 1.5rem 4rem; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 2.2rem 0 .8rem; }
.where { color: var(--faint); margin: .2rem 0 1.4rem; overflow-wrap: anywhere; }
.cards { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); }
.card, figure, .table { background: #fff; border: 1px solid var(--line); border-radius: .6rem; }
.card { padding: .8rem 1rem; }
.card b { display: block; font-size: 1.35rem; font-weight: 600; }
.card span { color: var(--faint); font-size: .85rem; }
.plots { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(27rem, 1fr)); }
figure { margin: 0; padding: .8rem 1rem; }
figcaption { font-weight: 600; }
figure img { width: 100%; height: auto; display: block; }
.table { padding: .4rem 1rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
td { padding: .3rem .8rem .3rem 0; border-top: 1px solid var(--line); vertical-align: top; }
tr:first-child td { border-top: 0; }
td:first-child { color: var(--faint); white-space: nowrap; width: 14rem; }
td:last-child { overflow-wrap: anywhere; }
details summary { cursor: pointer; font-weight: 600; margin: 1.6rem 0 .6rem; }
pre { background: #fff; border: 1px solid var(--line); border-radius: .6rem; padding: 1rem;
      overflow-x: auto; font-size: 13px; }
@media (max-width: 32rem) { .plots { grid-template-columns: 1fr; } }
"""


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
    name = escape(run.folder.name)
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title>",
        '<meta name=viewport content="width=device-width">',
        f"<style>{STYLE}</style><main><h1>{name}</h1>",
        f"<p class=where>{escape(_subtitle(run))}</p>",
        f"<div class=cards>{''.join(_card(*card) for card in cards(run))}</div>",
        "<h2>Curves</h2><div class=plots>",
        *_figures(run),
        "</div>",
        _section("This run", run.summary.get("opening")),
        _section("How it ended", run.summary.get("closing")),
        _details("Settings", _table(flat(run.summary.get("settings", {})))),
        _details("Environment", _table(flat(run.environment))),
        _details("Command", f"<pre>{escape(run.command)}</pre>" if run.command else ""),
        "</main></html>",
    ]
    return "\n".join(part for part in parts if part)


def _subtitle(run: RunRecord) -> str:
    where = ", ".join(run.environment.get("hosts", []))
    return "  ·  ".join(filter(None, [run.environment.get("time", ""), where, str(run.folder)]))


def cards(run: RunRecord) -> list[tuple[str, str]]:
    """The figures at the top: (value, what it is)."""
    unigram = run.summary.get("unigram_loss")
    found = [
        (run.status, "status"),
        (number(run.last("lm_loss"), "{:.4f}"), "training loss"),
        (number(run.last("validation_loss"), "{:.4f}"), "validation loss"),
        (number(unigram, "{:.4f}"), "unigram loss, no context"),
        (str(run.metrics[-1]["iteration"]), "iterations"),
        (short(run.last("consumed_tokens")), "tokens"),
        (duration(run.seconds()), "in iterations"),
        (short(run.typical("tokens_per_sec")), "tokens/s"),
        (number(run.typical("model_tflops"), "{:.3g}"), "model TFLOPS a rank"),
        (number(run.typical("tflops"), "{:.3g}"), "TFLOPS by Megatron's count"),
        (number(run.last("peak_memory_gib"), "{:.2f} GiB"), "peak memory of rank 0"),
    ]
    return [card for card in found if card[0]]


def _card(value: str, label: str) -> str:
    return f"<div class=card><b>{escape(value)}</b><span>{escape(label)}</span></div>"


def _figures(run: RunRecord) -> Iterable[str]:
    pictures = (
        ("Loss", plots.loss_plot),
        ("Throughput", plots.speed_plot),
        ("Arithmetic", plots.tflops_plot),
        ("Memory", plots.memory_plot),
        ("Gradient norm", plots.gradient_plot),
        ("Learning rate", plots.rate_plot),
    )
    for title, draw in pictures:
        data = base64.b64encode(draw(run).encode()).decode()
        image = f'<img alt="{title} by iteration" src="data:image/svg+xml;base64,{data}">'
        yield f"<figure><figcaption>{title}</figcaption>{image}</figure>"


def _section(title: str, rows: Any) -> str:
    pairs = [(str(row[0]), str(row[1])) for row in rows or [] if len(row) == 2]
    return f"<h2>{title}</h2>{_table(pairs)}" if pairs else ""


def _details(title: str, inside: str) -> str:
    return f"<details><summary>{title}</summary>{inside}</details>" if inside else ""


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in rows)
    return f"<div class=table><table>{cells}</table></div>" if rows else ""


def flat(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (name.of.value, value) rows."""
    if not isinstance(tree, dict):
        text = ", ".join(map(str, tree)) if isinstance(tree, list) else str(tree)
        return [(prefix, text)]
    rows = []
    for key, value in tree.items():
        rows += flat(value, f"{prefix}.{key}" if prefix else str(key))
    return rows
