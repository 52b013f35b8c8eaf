"""Speed and memory of `longseq prepare`, beside numpy's tables, tokenizers and Megatron's own tool.

Every line is measured in a process of its own on one core, the compared ones in turn on the same
sequences: random genes of 1,500 bases, 70 letters a line. Seconds are those of the core, imports
included as Python keeps them compiled; medians of --pairs. A tenth of the genes becomes DNA words
(bpe:4096), found there, beside what the library `tokenizers` alone makes of the same words.
Megatron's tool (--upstream, a checkout) gets the genes as JSON lines and tokens of one letter, the
nearest it has; it is slow, so that it gets a part of them, once, and its speed counts. The last
lines are the peak memory on a large file of genes and on a genome on a single line.
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

LONGSEQ = [sys.executable, "-m", "longseq"]
TABLE = [sys.executable, "-m", "benchmarks", "numpy_table"]
ALONE = [sys.executable, "-m", "benchmarks", "tokenizers_alone"]
BPE = "bpe:4096"


@dataclass(frozen=True)
class Measured:
    """Seconds of a process on its core (user and system), and its peak resident memory, MiB."""

    seconds: float
    peak: float


def measure(command: list[str]) -> Measured:
    """Run a command on one core; time and memory as the kernel counts them."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    runner = [sys.executable, "-I", "-S", str(ROOT / "benchmarks" / "measured.py"), *command]
    done = subprocess.run(runner, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=kept)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:6])} failed")
    seconds, peak = map(float, done.stdout.split())
    return Measured(seconds, peak)


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
    return measure([*LONGSEQ, "prepare", str(source), "--output", str(prefix), *words])


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
        speed = compare(table, source, folder, tokenizer, "parser and numpy", words, pairs)
        if theirs:
            found, read = theirs[0], theirs[1] / 1e6 / theirs[0].seconds
            table.row("Megatron's preprocess_data", found.seconds, read, found.peak, speed / read)
    dna_words(folder, megabytes, pairs, table)


def dna_words(folder: Path, megabytes: int, pairs: int, table: Table) -> None:
    """Byte-pair encoding, which is much slower: of a tenth of the genes."""
    source, trained = folder / "tenth.fa", folder / "trained"
    write_genes(source, megabytes * 100_000)
    words = f"--train-tokenizer {BPE} --workers 1 --output {trained}".split()
    found = measure([*LONGSEQ, "prepare", str(source), *words])
    size = source.stat().st_size / 1e6
    table.row(
        f"longseq prepare, {BPE} trained", found.seconds, size / found.seconds, found.peak, None
    )
    made = f"{trained}.tokenizer.json"
    alone = [*ALONE, str(source), str(folder / "alone"), made]
    compare(table, source, folder, f"huggingface:{made}", "parser and tokenizers", alone, pairs)


def compare(
    table: Table, source: Path, folder: Path, tokenizer: str, name: str, other: list[str],
    pairs: int,
) -> float:  # fmt: skip
    """Two rows, ours and another program's in turn; our MB a second."""
    size = source.stat().st_size / 1e6
    mine, theirs = in_turn(
        lambda: ours(source, folder / "out", tokenizer), lambda: measure(other), pairs
    )
    seconds, others = (median(one.seconds for one in found) for found in (mine, theirs))
    ratio = median(b.seconds / a.seconds for a, b in zip(mine, theirs, strict=True))
    short = BPE if tokenizer.startswith("huggingface") else tokenizer
    table.row(f"longseq prepare, {short}", seconds, size / seconds, mine[0].peak, None)
    table.row(f"{name}, {short}", others, size / others, theirs[0].peak, ratio)
    return size / seconds


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
