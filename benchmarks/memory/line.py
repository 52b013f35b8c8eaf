"""What a sequence costs in memory: resident peak of two ranks against its length, and its floor.

4 layers, hidden 256, 8 heads. "sequence" is the peak less what the rank held after a step on 512
tokens: what the sequence itself needs. "floor" is that in bf16 by docs/long-sequences.md: the input
of each layer, and q, k, v, attention's output, the layer's input gradient and output gradient and
the gradients of those four. "recomputed" is the same split over ranks with torch.utils.checkpoint
around each layer and all logits at once.

Bars: a straight line, at most 1.3 times the floor, at 32k at most half of "recomputed"; with
vocabulary 50,304 within 10% of vocabulary 512 at 32k, parameters left out: the base is taken after
a step, with weights and optimizer, and the table's gradient is counted with them, in fp32 as tiles
of the loss are added to it. In fp32 a peak of at most 0.75 GiB at 8k tokens, tensor parallel.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from benchmarks.plot import lines
from benchmarks.start import FULL, RING, SPLIT, ULYSSES, Job, network, run
from benchmarks.table import Table

AXES = {"ulysses": ULYSSES, "ring": RING, "tp": SPLIT}
LAYERS, HIDDEN, HEADS, GIB = 4, 256, 8, 2**30


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--axes", nargs="+", choices=AXES, default=["ulysses"])
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192, 16384, 32768, 65536])
    parser.add_argument("--recomputed-to", type=int, default=32768, help="longest without tiles")
    parser.add_argument("--vocabulary", type=int, default=512)
    parser.add_argument("--fp32", action="store_true", help="instead of bf16")
    parser.add_argument("--plot", type=Path, help="an SVG file")


def floor_gib(tokens: int) -> float:
    """Of one of two ranks; the input of a layer is kept, ten more of its size are at work."""
    half = 2 * HIDDEN * (LAYERS + 10)
    rotary, statistics, batch = 4 * HIDDEN // HEADS, 4 * HEADS, 3 * 8 + 4
    return (half + rotary + statistics + batch) * tokens / 2 / GIB


def measure(flags: list[str], vocabulary: int, plain: bool) -> tuple[float, float]:
    """GiB of the base and of the peak above it, of the rank that needs most."""
    flags = flags if plain else [*flags, *FULL]
    found = run(2, Job(flags, vocabulary=vocabulary, whole_logits=plain, torch_checkpoint=plain))
    pairs = zip(found.base_gib, found.peak_gib, strict=True)
    base, peak = max(pairs, key=lambda pair: pair[1])
    base += 4 * vocabulary * HIDDEN / GIB
    return base, peak - base


def straight(lengths: list[int], values: list[float]) -> tuple[float, float]:
    """Slope (bytes a token) and the largest distance of a point from the line, relative."""
    slope, start = np.polyfit(lengths, values, 1)
    fitted = start + slope * np.array(lengths)
    return float(slope) * GIB, float(np.max(np.abs(np.array(values) - fitted) / fitted))


def main(options: Namespace) -> str:
    lengths, peaks = options.lengths, []
    curves: dict[str, list[float]] = {}
    columns = ("base", ".3f"), ("sequence", ".3f"), ("floor", ".3f"), ("of floor", ".2f")
    table = Table(("axis", "<8"), ("tokens", ","), *columns, ("recomputed", ".3f"))
    for axis in options.axes:
        ours = curves[axis] = []
        for tokens in lengths:
            flags = network(tokens, *AXES[axis], *([] if options.fp32 else ["--bf16"]))
            base, sequence = measure(flags, options.vocabulary, plain=False)
            theirs = None
            if tokens <= options.recomputed_to:
                theirs = measure(flags, options.vocabulary, plain=True)[1]
            floor = floor_gib(tokens)
            ours.append(sequence)
            peaks.append(base + sequence)
            table.row(axis, tokens, base, sequence, floor, sequence / floor, theirs)
        if len(lengths) > 1:
            slope, far = straight(lengths, ours)
            share = slope / (floor_gib(lengths[0]) * GIB / lengths[0])
            print(f"{axis}: {slope:.0f} bytes a token, {share:.2f} of the floor's", end="; ")
            print(f"off a straight line {far:.1%}")
    if options.plot:
        curves["floor"] = [floor_gib(tokens) for tokens in lengths]
        lines(options.plot, lengths, curves, "GiB a rank for the sequence")
    return ", ".join(f"{peak:.2f} GiB" for peak in peaks)
