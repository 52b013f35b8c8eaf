"""One genome in each format that `longseq prepare` reads: the same tokens, time, memory and losses.

The files are written by the formats' own libraries, from a FASTA file (--fasta; by default λ's), in
pieces of 100,000 bases. Genes are pyrodigal's calls, written by pyrodigal as GFF and GenBank and by
hand as BED: codons as from --genes. Seconds are of one core, imports included. With --iterations N
a tiny network trains as long on each. Ends with 1 where tokens differ.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

from benchmarks.data.prepare import measure
from benchmarks.table import Table
from longseq.host.atomic_files import digest
from tests import file_formats
from tests.parallel.ranks import ROOT

PIECE = 100_000
LAMBDA = ROOT / "data" / "NC_001416.1.fa"
COLUMNS = ["--column", "sequence", "--name-column", "name"]
NETWORK = (
    "--num-layers 2 --hidden-size 64 --num-attention-heads 4 --global-batch-size 2 --seq-length 256"
    " --max-position-embeddings 256 --use-rotary-position-embeddings --zero-stage 0 --lr 3e-3"
    " --min-lr 3e-4 --lr-decay-style cosine --seed 1234 --device cpu --split 9,1,0"
)


def write_formats(sequence: str, folder: Path) -> dict[str, list[str]]:
    """The genome in pieces in every format; the flags that each file needs, the first is FASTA."""
    starts = range(0, len(sequence), PIECE)
    records = [(f"piece-{start}", sequence[start : start + PIECE]) for start in starts]
    names, pieces = [name for name, _ in records], [letters for _, letters in records]
    columns = {"name": names, "sequence": pieces}
    fasta = "".join(f">{name}\n{letters}\n" for name, letters in records).encode()
    files = {
        "x.fa": fasta,
        "x.fa.zst": file_formats.zstandard(fasta),
        "x.2bit": file_formats.twobit(records),
        "x.parquet": file_formats.parquet(columns, row_group_size=8),
        "stream.arrow": file_formats.arrow_stream(columns),
        "file.arrow": file_formats.arrow_file(columns),
        "x.gbk": file_formats.flat_file("genbank", records),
        "x.embl": file_formats.flat_file("embl", records),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: COLUMNS if name.endswith(("parquet", "arrow")) else [] for name in files}


def write_genes(sequence: str, folder: Path) -> dict[str, list[str]]:
    """pyrodigal's calls in every format of annotation; the first is our own call of pyrodigal."""
    from pyrodigal import GeneFinder

    (folder / "whole.fa").write_text(f">genome\n{sequence}\n")
    finder = GeneFinder(meta=len(sequence) < PIECE)
    if len(sequence) >= PIECE:
        finder.train(sequence.encode())
    genes = finder.find_genes(sequence.encode())
    with (folder / "genes.gff").open("w") as file:
        genes.write_gff(file, sequence_id="genome")
    with (folder / "genes.gbk").open("w") as file:
        genes.write_genbank(file, sequence_id="genome")
    with (folder / "genes.bed").open("w") as file:
        for gene in genes:
            strand = "-" if gene.strand < 0 else "+"
            file.write(f"genome\t{gene.begin - 1}\t{gene.end}\tgene\t0\t{strand}\n")
    codons = ["--tokenizer", "codon"]
    return {
        "whole.fa": ["--genes", *codons],
        "genes.gff": ["--annotation", str(folder / "genes.gff"), *codons],
        "genes.gbk": ["--features", "CDS", *codons],
        "genes.bed": ["--regions", str(folder / "genes.bed"), *codons],
    }


def loss(prefix: Path, iterations: int, folder: Path) -> float:
    """The last training loss of a tiny network."""
    run = folder / f"run-{prefix.name}"
    words = [sys.executable, "pretrain_gpt.py", *NETWORK.split(), "--data-path", str(prefix)]
    words += ["--train-iters", str(iterations), "--run-dir", str(run)]
    subprocess.run(words, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return float(json.loads(lines[-1])["lm_loss"])


def compare(
    files: dict[str, list[str]], folder: Path, iterations: int, title: str, table: Table
) -> bool:
    """A row a file; whether all have the tokens of the first."""
    expected, same = "", True
    for name, flags in files.items():
        source = folder / (name if name.endswith(("fa", "gbk")) or title != "genes" else "whole.fa")
        prefix = folder / f"out-{name}"
        words = [str(source), *flags, "--output", str(prefix), "--workers", "1"]
        found = measure([sys.executable, "-m", "longseq", "prepare", *words])
        tokens = digest(f"{prefix}.bin")[:8]
        expected = expected or tokens
        same &= tokens == expected
        last = loss(prefix, iterations, folder) if iterations else None
        size = (folder / name).stat().st_size / 1e6
        table.row(f"{title}, {name}", size, found.seconds, found.peak, tokens, last)
    return same


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--fasta", type=Path, default=LAMBDA, help="one sequence")
    parser.add_argument("--iterations", type=int, default=0, help="of a training on each")


def main(options: Namespace) -> None:
    from xopen import xopen

    with xopen(options.fasta) as file:
        _, _, body = file.read().partition("\n")
    sequence = body.replace("\n", "").upper()
    columns = ("file MB", ".1f"), ("core s", ".1f"), ("peak MiB", ".0f"), ("tokens", "<8")
    table = Table(("", "<24"), *columns, ("loss", ".4f"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        same = compare(write_formats(sequence, folder), folder, options.iterations, "pieces", table)
        genes = write_genes(sequence, folder)
        same &= compare(genes, folder, options.iterations, "genes", table)
    raise SystemExit(0 if same else 1)
