"""Speed and memory of `longseq prepare`, beside a Biopython loop and Megatron's own tool.

    python benchmarks/data_prepare.py [--megabytes 100] [--memory-megabytes 2000]
        [--upstream MEGATRON_DEEPSPEED_CHECKOUT]

Every line is measured in a process of its own on one core, the compared ones one after the other on
the same sequences: random genes of 1,500 bases, 70 letters a line. Megatron's tool gets them as
JSON lines and tokens of one letter, the nearest it has; it is slow, so that it gets a part of them
and its speed counts. Seconds are those of the core, so that a busy machine does not disturb the
ratios. The last lines are the peak memory on a large file of genes and on a genome
on a single line.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
WIDTH, GENE = 70, 1500
UPSTREAM_PART = 10_000_000  # bytes of sequence for Megatron's tool

BIOPYTHON_LOOP = """
import sys
import numpy as np
from Bio import SeqIO
source, target, kind = sys.argv[1:]
if kind == "codon":
    words = {a + b + c: 7 + 16 * i + 4 * j + k for i, a in enumerate("ACGT")
             for j, b in enumerate("ACGT") for k, c in enumerate("ACGT")}
else:
    words = {letter: number for number, letter in enumerate("ACGT")}
size = len(next(iter(words)))
with open(target, "wb") as file:
    for record in SeqIO.parse(source, "fasta"):
        text = str(record.seq).upper()
        ids = [words.get(text[i : i + size], 4) for i in range(0, len(text) - size + 1, size)]
        np.array([*ids, 15], dtype=np.uint8).tofile(file)
"""


@dataclass(frozen=True)
class Measured:
    """Seconds of a process on its core (user and system), and its peak resident memory, MiB."""

    seconds: float
    peak: float


def measure(command: list[str]) -> Measured:
    """Run a command on one core; time and memory as the kernel counts them."""
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=_one_core, cwd=ROOT
    )
    if child.stderr is None:
        raise RuntimeError("no pipe")
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command[:6])} failed:\n{errors.decode()[-2000:]}")
    return Measured(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def write_genes(path: Path, bases: int) -> None:
    """Random genes as FASTA, a million bases at a time."""
    rng = np.random.default_rng(1)
    per_block = 700
    with path.open("wb") as file:
        for block in range(-(-bases // (per_block * GENE))):
            letters = np.frombuffer(b"ACGT", np.uint8)[
                rng.integers(0, 4, (per_block, GENE), np.uint8)
            ]
            for number, gene in enumerate(letters):
                text = gene.tobytes()
                lines = [text[i : i + WIDTH] for i in range(0, GENE, WIDTH)]
                file.write(b">gene%d\n%s\n" % (block * per_block + number, b"\n".join(lines)))


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
    used = 0
    with source.open() as fasta, (folder / "genes.jsonl").open("w") as lines:
        gene: list[str] = []
        for line in fasta:
            used += len(line)
            if not line.startswith(">"):
                gene.append(line.strip())
            elif gene:
                lines.write(json.dumps({"text": "".join(gene)}) + "\n")
                gene = []
                if used > UPSTREAM_PART:
                    break
    vocabulary = {letter: number for number, letter in enumerate("ACGTN")}
    (folder / "vocab.json").write_text(json.dumps({**vocabulary, "<|endoftext|>": 5}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    words = {
        "--input": folder / "genes.jsonl",
        "--output-prefix": folder / "theirs",
        "--tokenizer-type": "GPT2BPETokenizer",
        "--vocab-file": folder / "vocab.json",
        "--merge-file": folder / "merges.txt",
        "--workers": 1,
    }
    flags = [str(word) for pair in words.items() for word in pair]
    tool = str(checkout / "tools" / "preprocess_data.py")
    measured = measure([sys.executable, "-W", "ignore", tool, *flags, "--append-eod"])
    return measured, used


def speeds(folder: Path, megabytes: int, checkout: Path | None) -> None:
    source = folder / "genes.fa"
    write_genes(source, megabytes * 1_000_000)
    size = source.stat().st_size / 1e6
    print(f"{size:.0f} MB of genes as FASTA, one core, imports included")
    print(f"{'':34}{'core s':>9}{'MB/s':>8}{'peak MiB':>10}{'ours is':>10}")
    theirs = upstream(checkout, source, folder) if checkout else None
    for tokenizer in ("nucleotide", "codon"):
        own = ours(source, folder / "out", tokenizer)
        speed = size / own.seconds
        print(f"{'longseq prepare, ' + tokenizer:34}{own.seconds:9.1f}{speed:8.0f}{own.peak:10.0f}")
        loop = measure(
            [sys.executable, "-c", BIOPYTHON_LOOP, str(source), str(folder / "loop"), tokenizer]
        )
        show(f"Biopython loop, {tokenizer}", loop, size, speed)
        if theirs:
            show("Megatron's preprocess_data", theirs[0], theirs[1] / 1e6, speed)


def show(name: str, measured: Measured, size: float, own_speed: float) -> None:
    speed = size / measured.seconds
    ratio = own_speed / speed
    print(f"{name:34}{measured.seconds:9.1f}{speed:8.1f}{measured.peak:10.0f}{ratio:9.1f}x")


def memory(folder: Path, megabytes: int) -> None:
    for name, write, bases in (
        (f"{megabytes} MB of genes", write_genes, megabytes * 985_000),
        ("500 MB on one line", write_line, 500_000_000),
    ):
        source = folder / "large.fa"
        write(source, bases)
        for tokenizer in ("nucleotide", "codon"):
            own = ours(source, folder / "out", tokenizer)
            speed = source.stat().st_size / 1e6 / own.seconds
            print(f"{name + ', ' + tokenizer:34}{own.seconds:9.1f}{speed:8.0f}{own.peak:10.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--memory-megabytes", type=int, default=2000)
    parser.add_argument("--upstream", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        speeds(Path(folder), options.megabytes, options.upstream)
        if options.memory_megabytes:
            memory(Path(folder), options.memory_megabytes)


if __name__ == "__main__":
    main()
