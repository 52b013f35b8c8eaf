"""The longest sequence that trains a step in 8 GiB a rank on 2 ranks, by what is done for memory.

    python benchmarks/ladder.py [--gib 8] [--run-to 262144] [--rungs plain,all] [--plot FILE.svg]
        [--results FILE.json]

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

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.two_ranks import NETWORK  # noqa: E402
from tests.parallel.ranks import MPIEXEC, rank_environ  # noqa: E402

VOCABULARY, DOCUMENT, STEP = 50304, 2048, 1024
FULL = ["--recompute-granularity", "full"]
NOTHING = ["--recompute-granularity", "none"]
ULYSSES = ["--ds-sequence-parallel-size", "2"]
RING = ["--context-parallel-size", "2"]
TP = ["--tensor-model-parallel-size", "2", "--sequence-parallel"]


@dataclass(frozen=True)
class Rung:
    """`savings` as in worker.py (`none`: all logits at once), or which other program runs it."""

    title: str
    flags: list[str]
    savings: str = "none"


RUNGS = {
    "plain": Rung("plain PyTorch, layers recomputed", ["recompute"], "plain"),
    "upstream": Rung("Megatron-DeepSpeed, tensor parallel, recomputed", [], "upstream"),
    "kept": Rung("plain PyTorch, nothing recomputed", [], "plain"),
    "loss": Rung("tiled loss alone", NOTHING, "longseq"),
    "tiles": Rung("layers in tiles alone", FULL),
    "tp": Rung("tensor + sequence parallel alone", [*TP, *NOTHING]),
    "ulysses": Rung("Ulysses alone", [*ULYSSES, *NOTHING]),
    "ring": Rung("ring alone", [*RING, *NOTHING]),
    "all tp": Rung("tensor parallel, tiles, tiled loss", [*TP, *FULL], "longseq"),
    "all ring": Rung("ring, tiles, tiled loss", [*RING, *FULL], "longseq"),
    "all": Rung("Ulysses, tiles, tiled loss", [*ULYSSES, *FULL], "longseq"),
}


def command_of(rung: Rung, tokens: int, gib: float) -> list[str]:
    numbers = [str(tokens), str(VOCABULARY), str(gib)]
    if rung.savings == "plain":
        return [sys.executable, str(ROOT / "benchmarks/plain_memory.py"), *numbers, *rung.flags]
    launcher = [MPIEXEC, "-n", "2", "sh", str(ROOT / "ALCF/rank.sh"), sys.executable]
    if rung.savings == "upstream":
        return [*launcher, str(ROOT / "benchmarks/upstream_memory.py"), *numbers]
    worker = [str(ROOT / "benchmarks/worker.py"), "0", *NETWORK, "--bf16"]
    return [*launcher, *worker, "--seq-length", str(tokens), *rung.flags]


def peak(rung: Rung, tokens: int, gib: float) -> float | None:
    """GiB of the rank that needs most for a step of `tokens`, None if one went over the limit."""
    env = rank_environ(
        OMP_NUM_THREADS="2" if rung.savings == "plain" else "1",
        BENCHMARK_VOCABULARY=str(VOCABULARY),
        BENCHMARK_DOCUMENT=str(DOCUMENT),
        BENCHMARK_SAVINGS=rung.savings,
        BENCHMARK_LIMIT_GIB=str(gib),
    )
    command = command_of(rung, tokens, gib)
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode == 3:
        return None
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return said if isinstance(said, float) else float(max(said["peak_gib"]))


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--gib", type=float, default=8.0)
    parser.add_argument("--run-to", type=int, default=262144)
    parser.add_argument("--rungs", default=",".join(RUNGS))
    parser.add_argument("--plot", help="an SVG file")
    parser.add_argument("--results", type=Path, help="a JSON file, read and added to")
    args = parser.parse_args()
    known = json.loads(args.results.read_text()) if args.results and args.results.exists() else {}
    for name in args.rungs.split(","):
        if name == "upstream" and "MEGATRON_DEEPSPEED_DIR" not in os.environ:
            print("upstream: left out, MEGATRON_DEEPSPEED_DIR names no checkout")
        elif name not in known:
            print(f"{name}: {RUNGS[name].title}")
            known[name] = search(RUNGS[name], args.gib, args.run_to)
            if args.results:
                args.results.write_text(json.dumps(known))
    rows = [(name, *known[name]) for name in args.rungs.split(",") if name in known]
    first = rows[0][1]
    print(f"\n{'':<50}{'ran':>9}{'GiB':>6}{'x':>7}{'predicted':>11}{'x':>7}")
    for name, ran, used, allowed in rows:
        print(
            f"{RUNGS[name].title:<50}{ran:>9,}{used:>6.1f}{ran / first:>7.1f}"
            f"{allowed:>11,}{allowed / first:>7.1f}"
        )
    if args.plot:
        plot([(RUNGS[name].title, ran, allowed) for name, ran, _, allowed in rows], args.plot)


def plot(rows: list[tuple[str, int, int]], path: str) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
    titles = [title for title, _, _ in rows]
    axes.barh(titles, [allowed for *_, allowed in rows], color="#c9d8e8", label="predicted")
    axes.barh(titles, [ran for _, ran, _ in rows], color="#3b6ea5", label="ran")
    axes.set(xscale="log", xlabel="tokens in 8 GiB a rank, 2 ranks", xlim=(8 * 1024, None))
    axes.set_xticks([2**13, 2**15, 2**17, 2**19, 2**21], ["8k", "32k", "128k", "512k", "2M"])
    axes.set_xticks([], minor=True)
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
