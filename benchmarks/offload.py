"""Seconds a step with the optimizer in host memory over those without, in turn in one process.

    python benchmarks/offload.py [--stages 1,2,3] [--hidden 512] [--tokens 512] [--pairs 9]

One fp32 rank, 4 layers, two threads: DeepSpeedCPUAdam against torch's fused AdamW on the same
engine. Bar: at most 1.3.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks.step_parts import make_step  # noqa: E402
from longseq.engine.distributed import start_distributed  # noqa: E402


def seconds(step: Callable[[], float]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", default="1,2,3")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_SIZE="1")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=os.environ.get("MASTER_PORT", "29747"))
    start_distributed(torch.device("cpu"))
    print(f"{'stage':>5} {'without':>8} {'with':>8} {'ratio':>6} {'of pairs':>13}")
    for stage in args.stages.split(","):
        plain = make_step(args.hidden, args.tokens, ["--zero-stage", stage])
        offloaded = make_step(args.hidden, args.tokens, ["--zero-stage", stage, "--cpu-optimizer"])
        for _ in range(2):
            plain(), offloaded()
        pairs = [(seconds(plain), seconds(offloaded)) for _ in range(args.pairs)]
        ratios = sorted(b / a for a, b in pairs)
        without, within = (statistics.median(column) for column in zip(*pairs, strict=True))
        span = f"{ratios[0]:.2f}–{ratios[-1]:.2f}"
        print(
            f"{stage:>5} {without:>8.3f} {within:>8.3f} {statistics.median(ratios):>6.2f}"
            f" {span:>13}",
            flush=True,
        )


if __name__ == "__main__":
    main()
