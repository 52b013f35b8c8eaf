"""What the means for long sequences cost in time, side by side in one run; fp32, h256, 8 heads.

    python benchmarks/long_speed.py tiling     layers recomputed in tiles, over whole: at most 1.05
    python benchmarks/long_speed.py axes       Ulysses 2 and ring 2 at 16k tokens, at least 0.9 of
                                               two independent ranks with half of the FLOPs each
    python benchmarks/long_speed.py kernel     64k tokens: attention's share of the step (0.85), and
                                               the step's FLOP rate over that of bare SDPA (0.8)
    python benchmarks/long_speed.py documents  the ring's balance for documents of random lengths,
                                               by counting the pairs of tokens each rank looks at

FLOPs are those of longseq/run/throughput.py `model_flops`: causal, recomputation not counted.
An independent rank works on a sequence that has half of the FLOPs of the whole one (shorter by less
than half, as attention's share grows with s²), one thread each, both at once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.two_ranks import NETWORK, run  # noqa: E402
from longseq.config.arguments import Network  # noqa: E402
from longseq.run.throughput import model_flops  # noqa: E402

FOUR_LAYERS = Network(num_layers=4, hidden_size=256, num_attention_heads=8)
VOCABULARY = 16
OUTSIDE = ["--recompute-granularity", "outside-attention"]


def seconds(ranks: int, threads: int, steps: int, tokens: int, *flags: str) -> float:
    return float(
        run(ranks, threads, steps, [*NETWORK, "--seq-length", str(tokens), *flags])["seconds"]
    )


def tiling(tokens: int, pairs: int) -> None:
    full = ["--recompute-granularity", "full", "--tile-size"]
    ratios = []
    for _ in range(pairs):
        tiled = seconds(1, 2, 2, tokens, *full, "2048")
        whole = seconds(1, 2, 2, tokens, *full, str(tokens))
        ratios.append(tiled / whole)
        print(f"{tokens:,} tokens: tiles {tiled:.2f} s, whole {whole:.2f} s", flush=True)
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"tiles / whole: {middle:.3f} ({low:.3f}–{high:.3f}); bar 1.05")


def half_of(tokens: int) -> int:
    """The length with half of the FLOPs of `tokens`, in steps of 64."""
    wanted = model_flops(FOUR_LAYERS, VOCABULARY, 1, tokens) / 2
    return min(
        range(64, tokens, 64),
        key=lambda s: abs(model_flops(FOUR_LAYERS, VOCABULARY, 1, s) - wanted),
    )


def independent(tokens: int) -> float:
    """Seconds a step of two single ranks at once; the slower one's."""
    worker = [sys.executable, str(ROOT / "benchmarks/worker.py"), "1", *NETWORK, *OUTSIDE]
    command = [*worker, "--seq-length", str(tokens)]
    base = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    started = [
        subprocess.Popen(
            command,
            env=base | {"MASTER_PORT": str(29750 + number)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [process.communicate()[0] for process in started]
    return max(float(json.loads(text.splitlines()[-1])["seconds"]) for text in outputs)


def axes(tokens: int, pairs: int) -> None:
    half = half_of(tokens)
    print(f"{tokens:,} tokens on 2 ranks; {half:,} tokens have half of its FLOPs")
    names = {"ulysses": "--ds-sequence-parallel-size", "ring": "--context-parallel-size"}
    ratios: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(pairs):
        alone = independent(half)
        for name, flag in names.items():
            found = run(2, 1, 1, [*NETWORK, "--seq-length", str(tokens), flag, "2", *OUTSIDE])
            ratios[name].append(alone / found["seconds"])
            line = f"{name}: {found['seconds']:.2f} s, independent {alone:.2f} s"
            if name == "ring":
                blocks = found["ring_seconds"]
                line += f"; attention's blocks by rank {', '.join(f'{t:.2f}' for t in blocks)} s"
                line += f", slowest / fastest {max(blocks) / min(blocks):.3f} (bar 1.1)"
            print(line, flush=True)
    for name, values in ratios.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{name}: {middle:.3f} of independent ranks ({low:.3f}–{high:.3f}); bar 0.9")


def kernel(tokens: int, layers: int) -> None:
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(2)
    network = Network(num_layers=layers, hidden_size=256, num_attention_heads=8)
    step = seconds(1, 2, 0, tokens, "--num-layers", str(layers), *OUTSIDE)
    q, k, v = (torch.randn(1, 8, tokens, 32, requires_grad=True) for _ in range(3))
    began = time.perf_counter()
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    y.backward(torch.ones_like(y))
    bare = time.perf_counter() - began
    # model_flops counts forward and backward as 3 times forward, for the kernel as for the step
    attention = 3 * 4 * 256 * tokens * tokens / 2
    rate, bare_rate = (
        model_flops(network, VOCABULARY, 1, tokens) / step / 1e9,
        attention / bare / 1e9,
    )
    print(f"{tokens:,} tokens, {layers} layers: step {step:.1f} s, SDPA of one layer {bare:.1f} s")
    print(f"attention's share of the step {layers * bare / step:.3f}; bar 0.85")
    print(f"step {rate:.0f} GFLOP/s, bare SDPA {bare_rate:.0f}: {rate / bare_rate:.3f}; bar 0.8")


def pairs_of(rank: int, size: int, tokens: int, ends: tuple[int, ...]) -> float:
    """Pairs of query and key that one ring rank works on."""
    import torch

    from longseq.parallel.mesh import Group
    from longseq.parallel.ring import blocks

    group, total = Group("ring", rank, size), 0.0
    for source in range(size):
        shape = torch.Size((1, 1, tokens // size, 1))
        for queries, keys, causal in blocks(shape, source, group, (ends,)):
            n, m = (at[2].stop - at[2].start for at in (queries, keys))
            total += n * m / (2 if causal else 1)
    return total


def documents(tokens: int, trials: int = 20) -> None:
    from longseq.attention import zigzag as spans

    finest = spans.MOST_PERIODS
    print(
        f"{tokens:,} tokens; busiest rank over the mean of the ranks, median and worst of {trials}"
    )
    for size in (2, 4, 8):
        for mean in (tokens // 256, tokens // 32, tokens // 8, tokens // 2):
            said = []
            for spans.MOST_PERIODS in (finest, 1):
                draw, found = random.Random(1), []
                for _ in range(trials):
                    ends = random_ends(draw, tokens, mean)
                    work = [pairs_of(rank, size, tokens, ends) for rank in range(size)]
                    found.append(max(work) / statistics.mean(work))
                said.append(f"{statistics.median(found):.2f}, {max(found):.2f}")
            print(
                f"ring {size}, documents of {mean:>6,} on average: {said[0]};"
                f" two chunks a rank: {said[1]}"
            )


def random_ends(draw: random.Random, tokens: int, mean: int) -> tuple[int, ...]:
    """Ends of documents whose lengths are exponential around `mean`."""
    ends, at = [], 0
    while at < tokens:
        at += max(1, int(draw.expovariate(1 / mean)))
        ends.append(min(at, tokens))
    return tuple(ends)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=("tiling", "axes", "kernel", "documents"))
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--layers", type=int, default=2)
    args = parser.parse_args()
    if args.what == "tiling":
        tiling(args.tokens or 8192, args.pairs)
    elif args.what == "axes":
        axes(args.tokens or 16384, args.pairs)
    elif args.what == "documents":
        documents(args.tokens or 65536)
    else:
        kernel(args.tokens or 65536, args.layers)


if __name__ == "__main__":
    main()
