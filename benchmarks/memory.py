"""Peak resident memory of two ranks against the sequence length.

    python benchmarks/memory.py [--lengths 8192] [FLAGS that are added to the run…]

4 layers, hidden 256, 8 heads, tensor parallel 2 with sequence parallelism, fp32, layers recomputed,
one training step after another. Bar at 8k tokens: 0.75 GiB a rank.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks.two_ranks import NETWORK, SPLIT, run  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", default="8192")
    args, flags = parser.parse_known_args()
    print(f"{'tokens':>7} {'GiB a rank':>11}")
    for length in args.lengths.split(","):
        common = [*NETWORK, *SPLIT, "--seq-length", length, "--checkpoint-activations", *flags]
        peaks = run(2, 1, 2, common)["peak_gib"]
        print(f"{length:>7} {' '.join(f'{peak:.3f}' for peak in peaks):>11}", flush=True)


if __name__ == "__main__":
    main()
