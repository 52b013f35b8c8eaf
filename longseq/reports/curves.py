"""The numbers that a page's curves are drawn from, and which curves there are: web/curves.js draws.

    content = one_run(run)              # or several(runs)
    text = as_json(content)             # safe between <script> and </script>

Content is `tables` of the columns of metrics.jsonl, `charts` that say what to draw of them, and
`events`, what happened when. Of a long run records are left out, never averaged: each number is
one of metrics.jsonl. A chart has title, unit, x (what its axis counts) and `series`, each with a
table and its key, or one value for all of it; points: of some iterations only, marked and joined,
where another has a gap at each without a number; zero: the scale begins there, near: its bounds
when all is seen, log: of x, stack: how many of the first series stand on each other, as parts of
the next one, bits: nats of one bit a base, lines: (iteration, kind) to mark.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from longseq.reports.plots import FEW, MARK_LINES, PARTS, bounds_near, smooth, thin
from longseq.reports.runs import RunRecord, finite

MOST = 3000  # records of all runs of a page
WATCHED = ("lm_loss", "grad_norm", "iteration_time")  # their least and greatest are kept
KEYS = (
    "lm_loss validation_loss grad_norm learning_rate tokens_per_sec iteration_time data_seconds"
    " forward_seconds backward_seconds update_seconds tflops model_tflops peak_memory_gib"
).split()
LOCAL = "local_mean"
NEAR = "Loss beside the baselines"
APART = "; baselines that are not the same for all runs are in the table only"
COLOURS, DASHES = 7, 4  # of the page; neighbours differ in both, for who sees no colour
INK = 7

Chart = dict[str, Any]


def kept(records: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """All, or some of them: of equal runs of neighbours the first and those with the least and the
    greatest of WATCHED; and all with a validation, the last, and what happened.
    """
    size = -(-len(records) * (1 + 2 * len(WATCHED)) // most)
    if len(records) <= most:
        return list(records)
    chosen = {0, len(records) - 1}
    for start in range(0, len(records), size):
        here = range(start, min(start + size, len(records)))
        chosen.add(start)
        for key in WATCHED:
            known = [(records[i][key], i) for i in here if finite(records[i].get(key))]
            if known:
                chosen |= {min(known)[1], max(known)[1]}
    marked = [i for i, r in enumerate(records) if r.get("event") or finite(r.get(KEYS[1]))]
    chosen |= set(marked[:: -(-len(marked) // most) or 1])
    return [records[i] for i in sorted(chosen)]


def table(run: RunRecord, most: int = MOST) -> dict[str, Any]:
    """x, the iterations, rising; c, a column a key with as many values, None where not measured."""
    records = {record["iteration"]: record for record in run.history + run.metrics}
    ordered = [records[iteration] for iteration in sorted(records)]
    some = kept(ordered, most)
    x = [record["iteration"] for record in some]
    columns = {key: [_rounded(record.get(key)) for record in some] for key in KEYS}
    at, losses = run.column("lm_loss")
    if len(losses) > FEW:
        import numpy as np

        means = thin(at, losses)
        local = np.interp(x, means[0], smooth(means[1]))
        columns[LOCAL] = [
            _rounded(float(value)) if there is not None else None  # no line where there is no loss
            for value, there in zip(local, columns["lm_loss"], strict=True)
        ]
    return {
        "x": x,
        "c": {k: c for k, c in columns.items() if any(v is not None for v in c)},
    }


def one_run(run: RunRecord) -> dict[str, Any]:
    """Of one run: a chart for each of plots.PICTURES that it has numbers for."""
    found = table(run)
    lines = [(at, "event") for at, _ in run.events()]
    if run.history:
        lines.append((run.metrics[0]["iteration"], "line"))
    tables = [found, _places(run)]
    losses = _losses(run, LOCAL in found["c"], lines)
    charts = [*losses, _by_place(tables[1]), _parts(found), *_plain()]
    return {
        "tables": tables,
        "charts": [chart for chart in charts if _with_numbers(chart, tables)],
        "events": run.events()[:MOST],
    }


def _losses(run: RunRecord, has_mean: bool, lines: list[tuple[int, str]]) -> list[Chart]:
    """The loss from the first iteration on, and near the losses that need no network."""
    series = [_series("lm_loss", "training", 0)]
    if has_mean:
        mean = _series(LOCAL, "training, local mean", 0)
        series = [_series("lm_loss", "each iteration", 0, faint=True), mean]
    series.append(_series("validation_loss", "validation", 1, points=True))
    bits = {"bits": math.log(2) * run.bases} if run.bases else {}
    nats = "nats a token" + (", bits per base on the right" if run.bases else "")
    losses = run.column("lm_loss")[1] + run.column("validation_loss")[1]
    near = bounds_near(losses, [value for _, value in run.marks()])
    return [
        _chart("Loss", nats, series, lines=lines, **bits),
        _chart(NEAR, nats, series + _marks(run.marks()), near=near, **bits),
    ]


def _places(run: RunRecord) -> dict[str, Any]:
    """x, the most tokens before; c, a column for each of some validations."""
    found = {at: dict(places) for at, places in run.by_place().items()}
    x = sorted({place for places in found.values() for place in places})
    return {"x": x, "c": {str(at): [_rounded(p.get(n)) for n in x] for at, p in found.items()}}


def _by_place(places: dict[str, Any]) -> Chart:
    styles = ((INK, 2), (1, 1), (0, 0))[-len(places["c"]) :]  # the last is drawn through
    series = [
        _series(at, f"iteration {int(at):,}", colour, table=1, points=True, dash=dash)
        for (colour, dash), at in zip(styles, places["c"], strict=False)
    ]
    chart = _chart("Validation loss by place in the sequence", "nats a token", series, log=True)
    return chart | {"x": "tokens before, up to"}


def _parts(found: dict[str, Any]) -> Chart:
    """One part on the other, where each was measured in each iteration."""
    series = [_series(f"{part}_seconds", part, n) for n, part in enumerate(PARTS)]
    whole = [found["c"].get(one["key"], [None]) for one in series]
    stack = {} if any(None in column for column in whole) else {"stack": len(series)}
    series.append(_series("iteration_time", "whole iteration", INK))
    times = sorted(v for v in found["c"].get("iteration_time", []) if v is not None)
    usual = 1.5 * times[int(0.98 * (len(times) - 1))] if times else 0.0
    near = {"near": (0, usual)} if usual and times[-1] > usual else {}
    unit = "seconds" + (f", the longest of {times[-1]:.3g} above" if near else "")
    return _chart("Parts of an iteration", unit, series, zero=True, **stack, **near)


def _plain() -> list[Chart]:
    counts = [
        _series("model_tflops", "of the model", 2),
        _series("tflops", "as Megatron counts", INK, dash=1),
    ]
    memory = [_series("peak_memory_gib", "peak of rank 0", 3)]
    return [
        _chart("Throughput", "tokens/s", [_series("tokens_per_sec", "speed", 2)], zero=True),
        _chart("Arithmetic", "TFLOPS a rank", counts, zero=True),
        _chart("Memory", "GiB", memory, zero=True),
        _chart("Gradient norm", "before clipping", [_series("grad_norm", "norm", 5)], zero=True),
        _chart("Learning rate", "", [_series("learning_rate", "rate", 1)], zero=True),
    ]


def _marks(marks: Sequence[tuple[str, float]]) -> list[Chart]:
    """In the styles of plots.draw_marks."""
    series: list[Chart] = []
    for n, (name, value) in enumerate(marks):
        again, dash = divmod(n, len(MARK_LINES))
        one = {"table": 0, "value": value, "label": name, "colour": INK, "dash": 1 + dash}
        series.append(one | ({"faint": True} if again else {}))
    return series


def several(runs: Sequence[RunRecord], names: Sequence[str]) -> dict[str, Any]:
    """Losses and speeds of several runs on each other, as they are called in `names`."""
    tables = [table(run, max(200, MOST // len(runs))) for run in runs]

    def of(key: str, **how: Any) -> list[Chart]:
        return [
            _series(
                LOCAL if key == "lm_loss" and LOCAL in tables[n]["c"] else key,
                names[n],
                n % COLOURS,
                dash=n % DASHES,
                table=n,
                **how,
            )
            for n in range(len(runs))
        ]

    losses = of("lm_loss")
    marks, apart = common_marks(runs)
    values = [v for run in runs for v in run.column("lm_loss")[1]]
    near = bounds_near(values, [value for _, value in marks])
    nats = "nats a token"
    charts = [
        _chart("Loss", "training, " + nats, losses),
        _chart("Validation loss", nats, of("validation_loss", points=True)),
        _chart(NEAR, nats + (APART if apart else ""), losses + _marks(marks), near=near),
        _chart("Throughput", "tokens/s", of("tokens_per_sec"), zero=True),
    ]
    with_numbers = [chart for chart in charts if _with_numbers(chart, tables)]
    return {"tables": tables, "charts": with_numbers, "events": []}


def as_json(content: dict[str, Any]) -> str:
    """JSON that no HTML parser can leave early, whatever names and notes hold."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _chart(title: str, unit: str, series: list[Chart], **more: Any) -> Chart:
    return {"title": title, "unit": unit, "x": "iteration", "series": series, **more}


def _series(key: str, label: str, colour: int, table: int = 0, **more: Any) -> Chart:
    return {"table": table, "key": key, "label": label, "colour": colour, **more}


def _with_numbers(chart: Chart, tables: Sequence[dict[str, Any]]) -> bool:
    """Leave series without a number out of a chart; False where none but marks remain."""
    chart["series"] = [
        one for one in chart["series"] if "value" in one or one["key"] in tables[one["table"]]["c"]
    ]
    return any("key" in one for one in chart["series"])


def _rounded(value: Any) -> float | None:
    """Seven digits, as many as a float32 has."""
    return float(f"{value:.7g}") if finite(value) else None


def common_marks(runs: Sequence[RunRecord]) -> tuple[list[tuple[str, float]], list[str]]:
    """The marks that all of these runs have alike, to the digits that are told; the names of those
    that they have not, as runs of other data or tokens.
    """
    each = [dict(run.marks()) for run in runs]
    names = list(dict.fromkeys(name for marks in each for name in marks))
    told = {
        name: {f"{marks[name]:.4f}" if name in marks else "" for marks in each} for name in names
    }
    alike = [(name, each[0][name]) for name in names if len(told[name]) == 1]
    return alike, [name for name in names if len(told[name]) > 1]
