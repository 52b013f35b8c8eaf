"""What a sequence costs in memory: resident peak of two ranks against its length, and its floor.

    python benchmarks/memory_line.py [--axes ulysses] [--lengths 8k,16k,32k,64k] [--plot FILE.svg]

bf16, 4 layers, hidden 256, 8 heads, vocabulary 512, one step, 2 ranks. "sequence" is the peak less
what the rank held after a step on 512 tokens: what the sequence itself needs. "floor" is that by
docs/long-sequences.md: the input of each layer, and q, k, v, attention's output, the layer's input
gradient and output gradient and the gradients of those four. "recomputed" is the same split over
ranks with torch.utils.checkpoint around each layer and all logits at once.

Bars: a straight line, at most 1.3 times the floor, at 32k at most half of "recomputed"; with
vocabulary 50,304 within 10% of vocabulary 512 at 32k, parameters left out: the base is taken after
a step, with weights and optimizer, and the table's gradient is counted with them, in fp32 as tiles
of the loss are added to it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks.two_ranks import NETWORK, run  # noqa: E402

AXES = {
    "ulysses": ["--ds-sequence-parallel-size", "2"],
    "ring": ["--context-parallel-size", "2"],
    "tp": ["--tensor-model-parallel-size", "2", "--sequence-parallel"],
}
LAYERS, HIDDEN, HEADS, GIB = 4, 256, 8, 2**30
TILED = ["--recompute-granularity", "full"]


def floor_gib(tokens: int) -> float:
    """Of one of two ranks; the input of a layer is kept, ten more of its size are at work."""
    half = 2 * HIDDEN * (LAYERS + 10)
    rotary, statistics, batch = 4 * HIDDEN // HEADS, 4 * HEADS, 3 * 8 + 4
    return (half + rotary + statistics + batch) * tokens / 2 / GIB


def measure(tokens: int, axis: str, savings: str, vocabulary: int) -> tuple[float, float]:
    """GiB of the base and of the peak above it, of the rank that needs most."""
    flags = [*NETWORK, "--bf16", "--seq-length", str(tokens), *AXES[axis]]
    flags += TILED if savings == "longseq" else []
    environ = {"BENCHMARK_VOCABULARY": str(vocabulary), "BENCHMARK_SAVINGS": savings}
    found = run(2, 1, 0, flags, **environ)
    pairs = zip(found["base_gib"], found["peak_gib"], strict=True)
    base, peak = max(pairs, key=lambda pair: pair[1])
    base += 4 * vocabulary * HIDDEN / GIB
    return base, peak - base


def line(lengths: list[int], values: list[float]) -> tuple[float, float]:
    """Slope (bytes a token) and the largest distance of a point from the line, relative."""
    n, mean = len(lengths), sum(lengths) / len(lengths)
    middle = sum(values) / n
    spread = sum((x - mean) ** 2 for x in lengths)
    slope = sum((x - mean) * (y - middle) for x, y in zip(lengths, values, strict=True)) / spread
    fitted = [middle + slope * (x - mean) for x in lengths]
    far = max(abs(y - f) / f for y, f in zip(values, fitted, strict=True))
    return slope * GIB, far


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--axes", default="ulysses")
    parser.add_argument("--lengths", default="8k,16k,32k,64k")
    parser.add_argument("--recomputed-to", default="32k", help="longest of the run without tiles")
    parser.add_argument("--vocabulary", type=int, default=512)
    parser.add_argument("--plot", help="an SVG file")
    args = parser.parse_args()
    lengths = [int(text.rstrip("k")) * 1024 for text in args.lengths.split(",")]
    longest = int(args.recomputed_to.rstrip("k")) * 1024
    curves: dict[str, list[float]] = {}
    print(
        f"{'axis':<8}{'tokens':>8}{'base':>7}{'sequence':>10}{'floor':>7}{'x':>6}{'recomputed':>12}"
    )
    for axis in args.axes.split(","):
        ours = []
        for tokens in lengths:
            base, sequence = measure(tokens, axis, "longseq", args.vocabulary)
            plain = (
                measure(tokens, axis, "torch", args.vocabulary)[1] if tokens <= longest else None
            )
            floor = floor_gib(tokens)
            ours.append(sequence)
            print(
                f"{axis:<8}{tokens:>8}{base:>7.3f}{sequence:>10.3f}{floor:>7.3f}"
                f"{sequence / floor:>6.2f}" + (f"{plain:>12.3f}" if plain else ""),
                flush=True,
            )
        curves[axis] = ours
        if len(lengths) > 1:
            slope, far = line(lengths, ours)
            share = slope * lengths[0] / GIB / floor_gib(lengths[0])
            print(
                f"{axis:<8}{slope:.0f} bytes a token, {share:.2f} x floor; off the line {far:.1%}"
            )
    if args.plot:
        plot(lengths, curves, Path(args.plot))


def plot(lengths: list[int], curves: dict[str, list[float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    thousands = [tokens / 1024 for tokens in lengths]
    for name, values in curves.items():
        axes.plot(thousands, values, marker="o", label=name)
    axes.plot(thousands, [floor_gib(t) for t in lengths], "--", color="gray", label="floor")
    axes.set(xlabel="thousand tokens", ylabel="GiB a rank for the sequence", ylim=(0, None))
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
