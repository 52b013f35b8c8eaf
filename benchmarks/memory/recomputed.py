"""Peak resident memory of each of two ranks against the sequence length, layers recomputed.

4 layers, hidden 256, 8 heads, tensor parallel 2 with sequence parallelism, fp32, one training step
after another. Bar at 8k tokens: 0.75 GiB a rank.
"""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace

from benchmarks.start import SPLIT, Job, network, run
from benchmarks.table import Table


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192])
    parser.add_argument("--flags", default="", help="further flags of the run")


def main(options: Namespace) -> str:
    table = Table(("tokens", ","), ("rank 0, GiB", ".3f"), ("rank 1, GiB", ".3f"))
    said = []
    for length in options.lengths:
        flags = [*SPLIT, "--checkpoint-activations", *shlex.split(options.flags)]
        peaks = run(2, Job(network(length, *flags), steps=3)).peak_gib
        table.row(length, *peaks)
        said.append(f"{max(peaks):.2f} GiB")
    return ", ".join(said)
