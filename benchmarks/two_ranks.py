"""Tokens a second of two ranks with one thread each over those of one rank with two threads.

    python benchmarks/two_ranks.py [--lengths 2048,8192] [--pairs 3] [FLAGS of the two-rank run…]

The two-rank run is the default one of a CPU: tensor parallel 2 with sequence parallelism. The runs
take turns. Bar: at least 0.85.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from tests.parallel.ranks import MPIEXEC, rank_environ  # noqa: E402

NETWORK = (
    "--num-layers 4 --hidden-size 256 --num-attention-heads 8 --use-rotary-position-embeddings"
    " --use-flash-attn-sdpa"
).split()
SPLIT = ["--tensor-model-parallel-size", "2", "--sequence-parallel"]


def run(ranks: int, threads: int, steps: int, flags: list[str], **environ: str) -> dict[str, Any]:
    """What worker.py says of a run of ours on this machine."""
    return start(ranks, threads, "worker.py", [str(steps), *flags], **environ)


def start(
    ranks: int, threads: int, program: str, words: list[str], **environ: str
) -> dict[str, Any]:
    """The JSON object that a program of this folder prints last, on that many ranks."""
    worker = [sys.executable, str(ROOT / "benchmarks" / program), *words]
    command = [MPIEXEC, "-n", str(ranks), "sh", str(ROOT / "ALCF/rank.sh"), *worker]
    env = rank_environ(OMP_NUM_THREADS=str(threads), **environ)
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", default="2048,8192")
    parser.add_argument("--pairs", type=int, default=3)
    args, flags = parser.parse_known_args()
    print(f"{'tokens':>7} {'one/s':>8} {'two/s':>8} {'ratio':>6} {'of pairs':>13}")
    for length in (int(text) for text in args.lengths.split(",")):
        steps = max(4, 40960 // length)
        common = [*NETWORK, "--seq-length", str(length)]
        pairs = []
        for _ in range(args.pairs):
            one = run(1, 2, steps, common)["seconds"]
            two = run(2, 1, steps, [*common, *(flags or SPLIT)])["seconds"]
            pairs.append((one, two))
        ratios = sorted(a / b for a, b in pairs)
        one, two = (statistics.median(column) for column in zip(*pairs, strict=True))
        span = f"{ratios[0]:.3f}–{ratios[-1]:.3f}"
        median = statistics.median(ratios)
        print(f"{length:>7} {length / one:>8.0f} {length / two:>8.0f} {median:>6.3f} {span:>13}")


if __name__ == "__main__":
    main()
