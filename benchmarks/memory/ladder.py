"""The longest sequence that trains a step in 8 GiB a rank on 2 ranks, by what is done for memory.

bf16, 4 layers, hidden 256, 8 heads, vocabulary 50,304 (that of the 2023 scripts). A rung is a way
to run; its memory is measured at growing lengths, each predicted from the two before, until the
prediction meets the limit. The length found is then run, unless it is beyond --run-to tokens, where
a step would take hours on two cores: then the longest one that ran stands beside the predicted one.
A rank that takes more than the limit is ended. Documents of 2,048 tokens keep the attention's time,
not its memory, from growing with s² (plain PyTorch and upstream have none: their sequences stay
short). Upstream is a checkout of Megatron-DeepSpeed, where MEGATRON_DEEPSPEED_DIR names one. Rungs
that --results holds are not run again.
"""

from __future__ import annotations

import json
import os
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path

from benchmarks.plot import dots
from benchmarks.start import FULL, RING, SPLIT, ULYSSES, Job, TooLargeError, network, run, say
from benchmarks.table import Table

VOCABULARY, DOCUMENT, STEP = 50304, 2048, 1024
NOTHING = ("--recompute-granularity", "none")


@dataclass(frozen=True)
class Rung:
    """A way to run; `program` is one of anchors/ with its options, else it is ours."""

    title: str
    flags: tuple[str, ...] = ()
    whole_logits: bool = True
    program: tuple[str, ...] = ()


RUNGS = {
    "plain": Rung("plain PyTorch, layers recomputed", program=("plain", "--recompute")),
    "upstream": Rung("Megatron-DeepSpeed, tensor parallel, recomputed", program=("upstream",)),
    "kept": Rung("plain PyTorch, nothing recomputed", program=("plain",)),
    "loss": Rung("tiled loss alone", NOTHING, whole_logits=False),
    "tiles": Rung("layers in tiles alone", FULL),
    "tp": Rung("tensor + sequence parallel alone", (*SPLIT, *NOTHING)),
    "ulysses": Rung("Ulysses alone", (*ULYSSES, *NOTHING)),
    "ring": Rung("ring alone", (*RING, *NOTHING)),
    "all-tp": Rung("tensor parallel, tiles, tiled loss", (*SPLIT, *FULL), whole_logits=False),
    "all-ring": Rung("ring, tiles, tiled loss", (*RING, *FULL), whole_logits=False),
    "all": Rung("Ulysses, tiles, tiled loss", (*ULYSSES, *FULL), whole_logits=False),
}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--gib", type=float, default=8.0)
    parser.add_argument("--run-to", type=int, default=262144)
    parser.add_argument("--rungs", nargs="+", choices=RUNGS, default=list(RUNGS))
    parser.add_argument("--plot", type=Path, help="an SVG file")
    parser.add_argument("--results", type=Path, help="a JSON file, read and added to")


def peak(rung: Rung, tokens: int, gib: float) -> float | None:
    """GiB of the rank that needs most for a step of `tokens`, None if one went over the limit."""
    numbers = ("--tokens", str(tokens), "--vocabulary", str(VOCABULARY), "--gib", str(gib))
    try:
        if rung.program:
            ranks, threads = (0, 2) if rung.program[0] == "plain" else (2, 1)
            said = say(ranks, ["benchmarks", *rung.program, *numbers], threads)
            return float(said if ranks == 0 else max(said))
        job = Job(
            network(tokens, "--bf16", *rung.flags),
            vocabulary=VOCABULARY,
            document=DOCUMENT,
            whole_logits=rung.whole_logits,
            limit_gib=gib,
        )
        return max(run(2, job).peak_gib)
    except TooLargeError:
        return None


def search(rung: Rung, gib: float, run_to: int) -> tuple[int, float, int]:
    """Longest length that ran, its GiB, and the length that the limit allows by prediction."""
    known: list[tuple[int, float]] = []
    tokens, too_long = 2 * STEP, 1 << 40
    while True:
        found = peak(rung, tokens, gib)
        print(f"    {tokens:>9,} tokens: {f'{found:.2f} GiB' if found else 'over'}", flush=True)
        if found is None:
            too_long = tokens
        else:
            known.append((tokens, found))
        (a, low), (b, high) = known[-2:] if len(known) > 1 else ((0, 0.5), known[-1])
        allowed = int(b + (gib - high) * (b - a) / max(high - low, 1e-3))
        allowed = min(allowed, too_long - 1) // STEP * STEP
        following = min(allowed, 4 * b, run_to)
        if following <= b * 1.02 or (following >= too_long * 0.98 and b >= too_long * 0.9):
            return b, high, max(allowed, b)
        tokens = following


def main(options: Namespace) -> str:
    results: Path | None = options.results
    known = json.loads(results.read_text()) if results and results.exists() else {}
    for name in options.rungs:
        if name == "upstream" and "MEGATRON_DEEPSPEED_DIR" not in os.environ:
            print("upstream: left out, MEGATRON_DEEPSPEED_DIR names no checkout")
        elif name not in known:
            print(f"{name}: {RUNGS[name].title}")
            known[name] = search(RUNGS[name], options.gib, options.run_to)
            if results:
                results.write_text(json.dumps(known))
    rows = [(name, *known[name]) for name in options.rungs if name in known]
    first = rows[0][1]
    columns = ("GiB", ".1f"), ("x", ".1f"), ("predicted", ","), ("x", ".1f")
    table = Table(("rung", "<50"), ("ran", ","), *columns)
    for name, ran, used, allowed in rows:
        table.row(RUNGS[name].title, ran, used, ran / first, allowed, allowed / first)
    if options.plot:
        ladder = [(RUNGS[name].title, ran, allowed) for name, ran, _, allowed in rows]
        dots(options.plot, ladder, "tokens in 8 GiB a rank, 2 ranks")
    return "; ".join(f"{name} {ran:,} in {used:.1f} GiB" for name, ran, used, _ in rows)
