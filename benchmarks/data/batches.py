"""How soon a batch is there, and what it takes of a rank's memory, as its group grows.

Each rank of a sequence-parallel group asks for its slice only. Every group size is measured in a
process of its own, for rank 0, on samples nobody read before (the disk's cache may hold them):
random bases in equal documents, positions and attention reset at each.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from argparse import SUPPRESS, ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from benchmarks.start import say
from benchmarks.table import Table
from benchmarks.timing import seconds
from longseq.config.arguments import Data
from longseq.data.indexed.writer import IndexedWriter
from longseq.data.opening import TrainingData, open_data
from longseq.host.host_memory import peak_resident_gib, reset_peak, resident_gib

TOKENS, SAMPLES = 64 << 20, 20


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--seq-length", type=int, default=1 << 20)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--as-rank", nargs=2, help=SUPPRESS)


def as_rank(prefix: str, seq_length: int, group: int) -> list[float]:
    """Read samples as rank 0 of a group; milliseconds, and MiB above the start."""
    found: list[TrainingData] = []
    options = Data(
        prefix, "nucleotide", "1,0,0", reset_position_ids=True, reset_attention_mask=True
    )
    opened = seconds(lambda: found.append(open_data(options, seq_length, 1)))
    samples = found[0].train
    assert samples is not None
    reset_peak()
    before = resident_gib()
    span = [(0, seq_length // group)]
    times = [seconds(lambda n=n: samples.batch([n], span)) for n in range(SAMPLES)]  # type: ignore[misc]
    grown = peak_resident_gib() - before
    return [opened * 1e3, times[0] * 1e3, statistics.median(times) * 1e3, grown * 1024]


def write(prefix: str, documents: int) -> None:
    writer = IndexedWriter(prefix, np.uint8)
    tokens = np.random.default_rng(1).integers(0, 4, TOKENS, np.uint8)
    for document in np.array_split(tokens, documents):
        document[-1] = 15
        writer.add(document)
        writer.end_document()
    writer.finish()


def main(options: Namespace) -> None:
    if options.as_rank:
        prefix, group = options.as_rank
        print(json.dumps(as_rank(prefix, options.seq_length, int(group))))
        return
    length = str(options.seq_length)
    print(f"samples of {options.seq_length:,} tokens from {options.documents:,} documents")
    columns = ("open ms", ".1f"), ("first ms", ".1f"), ("median ms", ".1f"), ("MiB", ".1f")
    table = Table(("ranks", ""), *columns)
    with tempfile.TemporaryDirectory() as folder:
        prefix = str(Path(folder) / "tokens")
        write(prefix, options.documents)
        for group in options.ranks:
            words = ["benchmarks", "batches", "--seq-length", length, "--as-rank", prefix]
            table.row(group, *say(0, [*words, str(group)]))
