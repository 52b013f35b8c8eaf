"""How soon a batch is there, and what it takes of a rank's memory, as its group grows.

    python benchmarks/data_batches.py [--seq-length 1048576] [--documents 1000]

Each rank of a sequence-parallel group asks for its slice only. Every group size is measured in a
process of its own, for rank 0, on samples nobody read before (the disk's cache may hold them).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
TOKENS = 64 << 20


def rank(prefix: str, seq_length: int, group: int) -> None:
    """Read 20 samples as rank 0 of a group; print milliseconds and KiB above the start."""
    from longseq.config.arguments import Data
    from longseq.data.opening import open_data

    started = time.perf_counter()
    options = Data(
        data_path=prefix,
        tokenizer_type="nucleotide",
        split="1,0,0",
        reset_position_ids=True,
        reset_attention_mask=True,
    )
    data = open_data(options, seq_length, 1)
    if data.train is None:
        raise SystemExit("no training data")
    opened = time.perf_counter() - started
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for index in range(20):
        started = time.perf_counter()
        data.train.batch([index], [(0, seq_length // group)])
        times.append(time.perf_counter() - started)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(opened * 1e3, times[0] * 1e3, statistics.median(times) * 1e3, after - before)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seq-length", type=int, default=1 << 20)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--rank", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank:
        rank(options.rank[0], options.seq_length, int(options.rank[1]))
        return
    from longseq.data.indexed.writer import IndexedWriter

    with tempfile.TemporaryDirectory() as folder:
        prefix = str(Path(folder) / "tokens")
        writer = IndexedWriter(prefix, np.uint8)
        tokens = np.random.default_rng(1).integers(0, 4, TOKENS, np.uint8)
        for document in np.array_split(tokens, options.documents):
            document[-1] = 15
            writer.add(document)
            writer.end_document()
        writer.finish()
        print(f"samples of {options.seq_length:,} tokens from {options.documents:,} documents")
        print(f"{'ranks':>6}{'open ms':>9}{'first ms':>10}{'median ms':>11}{'MiB':>7}")
        for group in (1, 2, 4, 8, 16, 32):
            command = [sys.executable, __file__, "--seq-length", str(options.seq_length)]
            done = subprocess.run(
                [*command, "--rank", prefix, str(group)],
                check=True, capture_output=True, text=True, cwd=ROOT,
            )  # fmt: skip
            opened, first, median, memory = map(float, done.stdout.split())
            print(f"{group:6}{opened:9.1f}{first:10.1f}{median:11.1f}{memory / 1024:7.1f}")


if __name__ == "__main__":
    main()
