"""What a page tells in tables: rows of (name, value), or of (name, value, share of a bar)."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from longseq.host.gpus import gpu_of
from longseq.reports import curves, plots
from longseq.reports.format import counted, no_number, number, size
from longseq.reports.runs import RunRecord, finite, nested

Row = tuple[str, str] | tuple[str, str, float]
Rows = Sequence[Row]
GIB = 2**30
ROWS = 40  # of the table of values, beside the validations


@dataclass(frozen=True)
class Table:
    """One of a page's, with a head."""

    title: str
    head: list[str]
    rows: list[list[str]]


def opening(run: RunRecord) -> Rows:
    """What ran, and why where it was chosen."""
    rows = []
    for name, value in pairs(run.summary.get("opening")):
        why = nested(run.summary, "reasons", name)
        rows.append((name, f"{value}: {why}" if why and isinstance(why, str) else value))
    return rows


def parts(run: RunRecord) -> Rows:
    """Median seconds of each part of an iteration and its share; then what is beside iterations."""
    whole = run.typical("iteration_time")
    each = {name: run.typical(f"{name}_seconds") for name in plots.PARTS}
    rows: list[Row] = []
    if whole and None not in each.values():
        rows += [
            (name, f"{took:.3g} s, {took / whole:.1%}", took / whole)
            for name, took in each.items()
            if took
        ]
    return rows + _beside(run)


def _beside(run: RunRecord) -> list[Row]:
    """Validations and checkpoints, and their share of iterations and all."""
    tried = run.column("validation_seconds", own=True)[1]
    saves = [record for record in run.metrics if finite(record.get("checkpoint_seconds"))]
    for record in run.metrics:
        before = record.get("checkpoints_before")
        saves += (
            [one for one in before if isinstance(one, dict)] if isinstance(before, list) else []
        )
    stood = sum(float(w) for s in saves if finite(w := s.get("checkpoint_seconds_waited")))
    whole = run.seconds() + sum(tried) + stood
    rows: list[Row] = []
    if tried and whole:
        share = sum(tried) / whole
        text = f"{counted(len(tried), 'time')}, {sum(tried):.3g} s: {share:.1%} of the run"
        rows.append(("validation", text, min(1.0, share)))
    if saves and whole:
        took = [t for save in saves if finite(t := save.get("checkpoint_seconds"))]
        text = f"{len(saves)}, {max(took, default=0):.3g} s at most; training stood {stood:.3g} s"
        share = stood / whole
        rows.append(("checkpoints", f"{text}: {share:.1%} of the run", min(1.0, share)))
    return rows


def memory(run: RunRecord) -> Rows:
    """Of a rank: planned by kind, and what was measured, as parts of what it can have."""
    planned = nested(run.summary, "memory", "planned")
    capacity = nested(run.summary, "memory", "capacity")
    if not isinstance(planned, dict) or not finite(capacity) or capacity <= 0:
        return []

    def row(name: str, held: float, more: str = "") -> Row:
        share = max(0.0, min(1.0, held / capacity))
        return name, f"{size(held)}, {held / capacity:.1%}{more}", share

    kinds = {str(kind): float(held) for kind, held in planned.items() if finite(held)}
    rows: list[Row] = [row(kind, held) for kind, held in sorted(kinds.items(), key=_least)]
    rows.append(row("planned in all", sum(kinds.values()), _moment(run)))
    for found, name in (
        (run.last("measured_memory_gib", own=True), "measured in the first steps"),
        (run.last("peak_memory_gib", own=True), "peak of rank 0, libraries too"),
        (_most(run)[0], "peak of the rank with the most"),
    ):
        if found is not None:
            rows.append(row(name, found * GIB))
    return [*rows, ("available", f"{size(capacity)} a rank")]


def _least(kind: tuple[str, float]) -> float:
    return -kind[1]


def _most(run: RunRecord) -> tuple[float | None, float | None]:
    """The largest peak of a rank, and which. Of a run that was killed the others' is up to a minute
    old, and rank 0's of its last step.
    """
    most, first = (run.last(f"{key}_memory_gib", own=True) for key in ("most", "peak"))
    if most is not None and first is not None and first > most:
        return first, 0
    return most, run.last("most_memory_rank", own=True)


def _moment(run: RunRecord) -> str:
    moment = nested(run.summary, "memory", "moment")
    return f", in {moment}" if isinstance(moment, str) else ""


def ranks(run: RunRecord) -> Rows:
    """How far they are apart: alone on the same work, and in memory."""
    factor, said = slowest_rank(run)
    rows: list[Row] = []
    if factor:
        rows.append(("slowest", f"{factor} the time of the others: {said}"))
    least, (most, rank) = run.last("least_memory_gib", own=True), _most(run)
    if least is not None and most is not None:
        which = f" (rank {rank:.0f})" if rank is not None else ""
        rows.append(("peak memory", f"{least:.2f} to {most:.2f} GiB{which}"))
    return rows


def slowest_rank(run: RunRecord) -> tuple[str, str]:
    """By how much the rank that was the slowest at most looks was slower than the others (the
    median), and what is to be said of it; empty where ranks were not compared.
    """
    looks = [
        m for m in run.metrics
        if isinstance(m.get("slowest_rank"), int) and finite(m.get("slowest_over_median"))
    ]  # fmt: skip
    if not looks:
        return "", ""
    rank = statistics.mode(m["slowest_rank"] for m in looks)
    its = [m for m in looks if m["slowest_rank"] == rank]
    over = statistics.median(float(m["slowest_over_median"]) for m in its)
    waiting = max(0.0, 1 - 1 / over) if over else 0.0
    said = (
        f"rank {rank} on {its[-1].get('slowest_host')}, alone, in"
        f" {len(its)} of {len(looks)} looks; all wait for it, up to {waiting:.0%} of a step"
    )
    return f"{over:.2f} x", said


def data(run: RunRecord) -> Rows:
    """Documents and their lengths in tokens, and how full samples are."""
    rows: list[Row] = []
    for each in _dicts(nested(run.summary, "data", "sets")):
        kinds = ("document", "token")
        counts = [counted(each[f"{k}s"], k) for k in kinds if finite(each.get(f"{k}s"))]
        rows.append(("data set", f"{each.get('name', '')}: {', '.join(counts)}"))
        lengths = each.get("lengths")
        known = lengths.items() if isinstance(lengths, dict) else ()
        text = ", ".join(f"{name} {value:,}" for name, value in known if finite(value))
        if text:
            rows.append(("lengths in tokens", text))
    shares = nested(run.summary, "data", "parts")
    for name, part in shares.items() if isinstance(shares, dict) else ():
        tokens, fill = nested(part, "tokens"), nested(part, "fill")
        if finite(tokens) and finite(fill):
            text = f"{tokens:,} tokens an epoch; {fill:.1%} of the places in samples count"
            rows.append((str(name), text))
    seen, epoch = run.last("consumed_tokens"), nested(shares, "train", "tokens")
    if seen and finite(epoch) and epoch > 0:
        rows.append(("trained on", f"{seen:,.0f} tokens, {seen / epoch:.2f} epochs"))
    return rows


def _dicts(found: Any) -> list[dict[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def precision(run: RunRecord) -> str:
    """fp32, bf16 or fp16; empty where it is not known."""
    flags = nested(run.summary, "settings", "training")
    kinds = [kind for kind in ("bf16", "fp16") if nested(flags, kind) is True]
    return kinds[0] if kinds else "fp32" if isinstance(flags, dict) else ""


def utilization(run: RunRecord) -> tuple[str, str]:
    """MFU: FLOPs of the network over the peak of a rank's GPU, and whose; empty if not known."""
    speed, kind = run.typical("model_tflops"), precision(run)
    found = run.environment.get("gpus")
    names = {gpu_of(str(line)) for line in found} if isinstance(found, list) else set()
    on_gpu = dict(pairs(run.summary.get("opening"))).get("precision", "").endswith("on cuda")
    gpu = names.pop() if len(names) == 1 else None
    if speed is None or gpu is None or not on_gpu or kind not in ("bf16", "fp16"):
        return "", ""
    peak = gpu.peak(kind) / 1e12
    return f"{speed / peak:.1%}", f"MFU: of the {peak:g} TFLOPS in {kind} of {gpu.title}"


def happened(run: RunRecord) -> Rows:
    """The runs before, losses that are no number, and what was done about spikes: the first of
    many.
    """
    events = run.events()
    rows: list[Row] = [("before", text) for text in run.earlier]
    rows += [("loss", text) for text in no_number(run.history + run.metrics)]
    rows += [(f"iteration {at:,}", text) for at, text in events[:ROWS]]
    if len(events) > ROWS:
        rows.append(("more", f"{len(events) - ROWS:,} more are in metrics.jsonl, as event"))
    return rows


def damage(run: RunRecord) -> Rows:
    """What of the run's files cannot be used."""
    if not run.lost:
        return []
    return [("metrics.jsonl", f"{run.lost} of its lines cannot be read and are left out")]


def pairs(rows: Any) -> list[tuple[str, str]]:
    """Rows of two that a run's summary holds."""
    rows = rows if isinstance(rows, list) else []
    return [(str(row[0]), str(row[1])) for row in rows if isinstance(row, list) and len(row) == 2]


def values(run: RunRecord, content: dict[str, Any]) -> Table:
    """Some of the curves' numbers, a row an iteration: validations, events, and a few between."""
    found = content["tables"][0]
    x, columns = found["x"], {k: c for k, c in found["c"].items() if k != curves.LOCAL}
    chosen = set(range(0, len(x), -(-len(x) // ROWS))) | {len(x) - 1}
    known = [n for n, v in enumerate(columns.get("validation_loss", [])) if v is not None]
    chosen |= set(known[:: -(-len(known) // ROWS) or 1])
    happened = {at for at, _ in run.events()[:ROWS]}
    chosen |= {n for n, at in enumerate(x) if at in happened}
    rows = [
        [f"{x[n]:,}", *(number(column[n], "{:.5g}") for column in columns.values())]
        for n in sorted(chosen)
    ]
    head = ["iteration", *(key.replace("_", " ") for key in columns)]
    return Table("Values of some iterations", head, rows)


def flat(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (name.of.value, value) rows."""
    if isinstance(tree, list) and tree and all(isinstance(one, dict) for one in tree):
        return _alike(tree, prefix)
    if not isinstance(tree, dict):
        text = ", ".join(map(str, tree)) if isinstance(tree, list) else str(tree)
        return [(prefix, text)]
    rows = []
    for key, value in tree.items():
        rows += flat(value, f"{prefix}.{key}" if prefix else str(key))
    return rows


def _alike(tree: list[dict[str, Any]], prefix: str) -> list[tuple[str, str]]:
    """A row for each run of neighbours that are alike, as ranks of a host are: `ranks 0-3`."""
    texts = [", ".join(f"{k} {v}" for k, v in one.items() if v not in ("", None)) for one in tree]
    rows, first = [], 0
    for text, same in itertools.groupby(texts):
        last = first + len(list(same)) - 1
        rows.append((f"{prefix} {first}" + (f"-{last}" if last > first else ""), text))
        first = last + 1
    return rows
