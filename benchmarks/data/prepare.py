"""Speed and memory of `longseq prepare`, beside numpy's tables and Megatron's own tool.

Every line is measured in a process of its own on one core, the compared ones in turn on the same
sequences: random genes of 1,500 bases, 70 letters a line. Seconds are those of the core, imports
included as Python keeps them compiled; medians of --pairs. Megatron's tool (--upstream, a checkout)
gets the genes as JSON lines and tokens of one letter, the nearest it has; it is slow, so that it
gets a part of them, once, and its speed counts. The last lines are the peak memory on a large file
of genes and on a genome on a single line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.table import Table
from tests.parallel.ranks import ROOT

WIDTH, GENE = 70, 1500
UPSTREAM_PART = 10_000_000  # bytes of sequence for Megatron's tool
STAND_INS = {  # of what its tool imports and genes do not need
    "six.py": "",
    "nltk.py": "class tokenize:\n    class punkt:\n        PunktLanguageVars = object\n",
}

TABLE = [sys.executable, "-m", "benchmarks", "numpy_table"]


@dataclass(frozen=True)
class Measured:
    """Seconds of a process on its core (user and system), and its peak resident memory, MiB."""

    seconds: float
    peak: float


def measure(command: list[str]) -> Measured:
    """Run a command on one core; time and memory as the kernel counts them."""
    core = str(min(os.sched_getaffinity(0)))
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    child = subprocess.Popen(
        ["taskset", "-c", core, *command], stdout=subprocess.DEVNULL, cwd=ROOT, env=kept
    )
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

    with source.open() as file:
        part = file.read(UPSTREAM_PART).rpartition("\n>")[0]  # whole genes
    with (folder / "genes.jsonl").open("w") as lines:
        for _, gene in SimpleFastaParser(StringIO(part)):
            lines.write(json.dumps({"text": gene}) + "\n")
    vocabulary = {letter: number for number, letter in enumerate("ACGTN")}
    (folder / "vocab.json").write_text(json.dumps({**vocabulary, "<|endoftext|>": 5}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    files = f"--input {folder}/genes.jsonl --output-prefix {folder}/theirs"
    tables = f"--vocab-file {folder}/vocab.json --merge-file {folder}/merges.txt"
    flags = f"{files} {tables} --tokenizer-type GPT2BPETokenizer --workers 1 --append-eod".split()
    for name, text in STAND_INS.items():
        (folder / name).write_text(text)
    tool = str(checkout / "tools" / "preprocess_data.py")
    command = ["env", f"PYTHONPATH={folder}", sys.executable, "-W", "ignore", tool, *flags]
    return measure(command), len(part)


def table_of(title: str) -> Table:
    columns = ("core s", ".1f"), ("MB/s", ".1f"), ("peak MiB", ".0f"), ("ours is, times", ".2f")
    return Table((title, "<34"), *columns)


def speeds(folder: Path, megabytes: int, pairs: int, checkout: Path | None) -> None:
    source = folder / "genes.fa"
    write_genes(source, megabytes * 1_000_000)
    size = source.stat().st_size / 1e6
    print(f"{size:.0f} MB of genes as FASTA, one core, imports included")
    table = table_of("")
    theirs = upstream(checkout, source, folder) if checkout else None
    for tokenizer in ("nucleotide", "codon", "kmer:6"):
        words = [*TABLE, str(source), str(folder / "table"), tokenizer]
        own, other = in_turn(
            lambda: ours(source, folder / "out", tokenizer),  # noqa: B023
            lambda: measure(words),  # noqa: B023
            pairs,
        )
        seconds = median(found.seconds for found in own)
        table.row(f"longseq prepare, {tokenizer}", seconds, size / seconds, own[0].peak, None)
        ratio = median(b.seconds / a.seconds for a, b in zip(own, other, strict=True))
        others = median(found.seconds for found in other)
        row = others, size / others, other[0].peak, ratio
        table.row(f"parser and numpy, {tokenizer}", *row)
        if theirs:
            found, read = theirs[0], theirs[1] / 1e6
            speed = read / found.seconds
            row = found.seconds, speed, found.peak, size / seconds / speed
            table.row("Megatron's preprocess_data", *row)


def in_turn(
    one: Callable[[], Measured], other: Callable[[], Measured], pairs: int
) -> tuple[list[Measured], list[Measured]]:
    """So many measurements of each, after one that compiles what they import."""
    one(), other()
    found = [(one(), other()) for _ in range(pairs)]
    return [a for a, _ in found], [b for _, b in found]


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
    parser.add_argument("--pairs", type=int, default=5, help="measurements of each (5)")
    parser.add_argument("--memory-megabytes", type=int, default=2000, help="0: no memory lines")
    parser.add_argument("--upstream", type=Path, help="a checkout of Megatron-DeepSpeed")


def main(options: Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        speeds(Path(folder), options.megabytes, options.pairs, options.upstream)
        if options.memory_megabytes:
            memory(Path(folder), options.memory_megabytes)
