"""Attention to many documents in one sample on the CPU: does the cost follow the squares?

8 heads of 32, forward and backward; CPU seconds of one thread, which other programs disturb less
than the clock's. "squares" is Σn² of documents of random lengths over the square of the sample, "of
whole" their time over that of one document. Then as many equal documents: by the loop over
documents, and as one call on a batch of them; the difference is what the loop costs.
"""

from __future__ import annotations

import random
import time
from argparse import ArgumentParser, Namespace
from functools import partial
from itertools import pairwise

import torch

from benchmarks.table import Table
from benchmarks.timing import best_of
from longseq.attention.kernel import Documents, kernel

HEADS, HEAD_SIZE = 8, 32
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--documents", type=int, nargs="+", default=[1, 4, 16, 64, 256, 1024])


def seconds_of(dtype: torch.dtype, s: int, b: int, documents: Documents) -> float:
    """Of one forward and backward pass over b rows of s tokens."""
    shape = s, b, HEADS, HEAD_SIZE
    q, k, v = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))

    def act() -> object:
        return torch.autograd.grad(kernel("sdpa")(q, k, v, documents, None).sum(), (q, k, v))

    return best_of(act, clock=time.process_time)


def main(options: Namespace) -> None:
    torch.set_num_threads(1)
    s, of = options.tokens, partial(seconds_of, DTYPES[options.dtype])
    of(512, 1, None)  # the first call finds the libraries
    random_columns = (("squares", ".4f"), ("of whole", ".4f"), ("seconds", ".3f"))
    equal_columns = (("equal, loop", ".3f"), ("one call", ".3f"), ("ms each", ".3f"))
    table = Table(("documents", ","), *random_columns, *equal_columns)
    generator, whole = random.Random(0), 0.0
    for count in options.documents:
        edges = sorted(generator.sample(range(1, s), count - 1))
        squares = sum((b - a) ** 2 for a, b in pairwise((0, *edges, s))) / s**2
        taken = of(s, 1, (tuple(edges),))
        whole = whole or taken
        n = s // count
        loop, call = of(s, 1, (tuple(range(n, s, n)),)), of(n, count, None)
        table.row(count, squares, taken / whole, taken, loop, call, 1e3 * (loop - call) / count)
