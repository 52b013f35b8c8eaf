"""Attention to many documents in one sample on the CPU: does the cost follow the squares?

    python benchmarks/documents.py [--tokens 16384] [--dtype fp32]

8 heads of 32, forward and backward; CPU seconds of one thread, which other programs disturb less
than the clock's. "squares" is Σn² of documents of random lengths over the square
of the sample, "of whole" their time over that of one document. Then as many equal documents: by the
loop over documents, and as one call on a batch of them; the difference is what the loop costs.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from longseq.attention.kernel import Documents, kernel  # noqa: E402

HEADS, HEAD_SIZE = 8, 32
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def best_of(act: Callable[[], object]) -> float:
    """Seconds of the fastest of three calls, or of one that takes long."""
    times: list[float] = []
    while len(times) < 3 and sum(times) < 5:
        began = time.process_time()
        act()
        times.append(time.process_time() - began)
    return min(times)


def step(s: int, b: int, documents: Documents, dtype: torch.dtype) -> Callable[[], object]:
    """One forward and backward pass over b rows of s tokens."""
    shape = s, b, HEADS, HEAD_SIZE
    q, k, v = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
    attend = kernel("sdpa")

    def act() -> tuple[Tensor, ...]:
        return torch.autograd.grad(attend(q, k, v, documents, None).sum(), (q, k, v))

    return act


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    args = parser.parse_args()
    torch.set_num_threads(1)
    s, dtype = args.tokens, DTYPES[args.dtype]
    step(512, 1, None, dtype)()  # the first call finds the libraries
    print(f"{'':>9} {'random lengths':>26} {'equal lengths':>25}")
    print(f"{'documents':>9} {'squares':>8} {'of whole':>8} {'seconds':>8}", end=" ")
    print(f"{'loop':>8} {'one call':>8} {'ms each':>7}")
    generator, whole = random.Random(0), 0.0
    for count in (1, 4, 16, 64, 256, 1024):
        edges = sorted(generator.sample(range(1, s), count - 1))
        squares = sum((b - a) ** 2 for a, b in pairwise((0, *edges, s))) / s**2
        seconds = best_of(step(s, 1, (tuple(edges),), dtype))
        whole = whole or seconds
        n = s // count
        loop = best_of(step(s, 1, (tuple(range(n, s, n)),), dtype))
        call = best_of(step(n, count, None, dtype))
        row = f"{count:>9} {squares:>8.4f} {seconds / whole:>8.4f} {seconds:>8.3f}"
        print(f"{row} {loop:>8.3f} {call:>8.3f} {1e3 * (loop - call) / count:>7.3f}", flush=True)


if __name__ == "__main__":
    main()
