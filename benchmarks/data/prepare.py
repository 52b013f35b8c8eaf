"""Speed and memory of `longseq prepare`, beside numpy's tables and Megatron's own tool.

Every line is measured in a process of its own on one core, the compared ones one after the other on
the same sequences: random genes of 1,500 bases, 70 letters a line. Megatron's tool (--upstream, a
checkout) gets them as JSON lines and tokens of one letter, the nearest it has; it is slow, so that
it gets a part of them and its speed counts. Seconds are those of the core, so that a busy machine
does not disturb the ratios. The last lines are the peak memory on a large file of genes and on a
genome on a single line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.table import Table
from tests.parallel.ranks import ROOT

WIDTH, GENE = 70, 1500
UPSTREAM_PART = 10_000_000  # bytes of sequence for Megatron's tool

TABLE = [sys.executable, "-m", "benchmarks", "numpy_table"]


@dataclass(frozen=True)
class Measured:
    """Seconds of a process on its core (user and system), and its peak resident memory, MiB."""

    seconds: float
    peak: float


def measure(command: list[str]) -> Measured:
    """Run a command on one core; time and memory as the kernel counts them."""
    core = str(min(os.sched_getaffinity(0)))
    child = subprocess.Popen(["taskset", "-c", core, *command], stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command[:6])} failed")
    return Measured(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def write_genes(path: Path, bases: int) -> None:
    """Random genes as FASTA."""
    rng, letters = np.random.default_rng(1), np.frombuffer(b"ACGT", np.uint8)
    with path.open("wb") as file:
        for number in range(-(-bases // GENE)):
            gene = letters[rng.integers(0, 4, GENE, np.uint8)].tobytes()
            lines = [gene[i : i + WIDTH] for i in range(0, GENE, WIDTH)]
            file.write(b">gene%d\n%s\n" % (number, b"\n".join(lines)))


def write_line(path: Path, bases: int) -> None:
    """One record on one line."""
    block = b"ACGTTGCATC" * 100_000
    with path.open("wb") as file:
        file.write(b">one\n")
        for _ in range(bases // len(block)):
            file.write(block)


def ours(source: Path, prefix: Path, tokenizer: str) -> Measured:
    words = f"--tokenizer {tokenizer} --workers 1 --overwrite".split()
    return measure(
        [sys.executable, "-m", "longseq", "prepare", str(source), "--output", str(prefix), *words]
    )


def upstream(checkout: Path, source: Path, folder: Path) -> tuple[Measured, int]:
    """Megatron's preprocess_data on the same sequences, and their bytes as FASTA."""
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    with source.open() as fasta, (folder / "genes.jsonl").open("w") as lines:
        for _, gene in SimpleFastaParser(fasta):
            lines.write(json.dumps({"text": gene}) + "\n")
            if (used := fasta.tell()) > UPSTREAM_PART:
                break
    vocabulary = {letter: number for number, letter in enumerate("ACGTN")}
    (folder / "vocab.json").write_text(json.dumps({**vocabulary, "<|endoftext|>": 5}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    files = f"--input {folder}/genes.jsonl --output-prefix {folder}/theirs"
    tables = f"--vocab-file {folder}/vocab.json --merge-file {folder}/merges.txt"
    flags = f"{files} {tables} --tokenizer-type GPT2BPETokenizer --workers 1 --append-eod".split()
    tool = str(checkout / "tools" / "preprocess_data.py")
    return measure([sys.executable, "-W", "ignore", tool, *flags]), used


def table_of(title: str) -> Table:
    columns = ("core s", ".1f"), ("MB/s", ".1f"), ("peak MiB", ".0f"), ("ours is, times", ".1f")
    return Table((title, "<34"), *columns)


def speeds(folder: Path, megabytes: int, checkout: Path | None) -> None:
    source = folder / "genes.fa"
    write_genes(source, megabytes * 1_000_000)
    size = source.stat().st_size / 1e6
    print(f"{size:.0f} MB of genes as FASTA, one core, imports included")
    table = table_of("")
    theirs = upstream(checkout, source, folder) if checkout else None
    for tokenizer in ("nucleotide", "codon", "kmer:6"):
        own = ours(source, folder / "out", tokenizer)
        speed = size / own.seconds
        table.row(f"longseq prepare, {tokenizer}", own.seconds, speed, own.peak, None)
        words = [str(source), str(folder / "table"), tokenizer]
        others = {f"parser and numpy, {tokenizer}": (measure([*TABLE, *words]), size)}
        if theirs:
            others["Megatron's preprocess_data"] = theirs[0], theirs[1] / 1e6
        for name, (found, read) in others.items():
            other = read / found.seconds
            table.row(name, found.seconds, other, found.peak, speed / other)


def memory(folder: Path, megabytes: int) -> None:
    table = table_of("memory")
    for name, write, bases in (
        (f"{megabytes} MB of genes", write_genes, megabytes * 985_000),
        ("500 MB on one line", write_line, 500_000_000),
    ):
        source = folder / "large.fa"
        write(source, bases)
        for tokenizer in ("nucleotide", "codon"):
            own = ours(source, folder / "out", tokenizer)
            speed = source.stat().st_size / 1e6 / own.seconds
            table.row(f"{name}, {tokenizer}", own.seconds, speed, own.peak, None)


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--memory-megabytes", type=int, default=2000, help="0: no memory lines")
    parser.add_argument("--upstream", type=Path, help="a checkout of Megatron-DeepSpeed")


def main(options: Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        speeds(Path(folder), options.megabytes, options.upstream)
        if options.memory_megabytes:
            memory(Path(folder), options.memory_megabytes)
