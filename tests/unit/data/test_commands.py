"""`longseq prepare` and `longseq data` as a user calls them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from Bio.Seq import Seq
from data_helpers import LAMBDA, make, records_of

from longseq.__main__ import run_verb
from longseq.errors import UserError


def test_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = str(tmp_path / "a b" / "it's")
    assert run_verb(["prepare", str(LAMBDA), "--output", prefix]) == 0
    printed = capsys.readouterr().out
    assert "48,503 tokens in 1 documents" in printed
    assert re.search(r"\n  [0-9.]+ s, [1-9][0-9.]*[kM]?B/s\n$", printed)  # however little it was
    with pytest.raises(UserError, match="--overwrite"):
        run_verb(["prepare", str(LAMBDA), "--output", prefix])
    assert run_verb(["prepare", str(LAMBDA), "--output", prefix, "--overwrite"]) == 0
    capsys.readouterr()
    assert run_verb(["data", "inspect", prefix, "--seq-length", "100"]) == 0
    printed = capsys.readouterr().out
    assert "train 46,029 tokens" in printed
    assert "GGGCGGCGACCTCGCGGGTTTTCGC" in printed
    assert run_verb(["data", "verify", prefix]) == 0
    assert "good" in capsys.readouterr().out
    assert run_verb(["data", "decode", prefix]) == 0
    header, _, body = capsys.readouterr().out.partition("\n")
    assert header == f">0 {records_of(LAMBDA.read_text())[0][0]}"
    assert body.replace("\n", "") == records_of(LAMBDA.read_text())[0][1]


def test_duplicates_are_a_table_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record and its other strand, by Biopython; sums and mistakes are not in the table."""
    sequence = records_of(LAMBDA.read_text())[0][1][:1000]
    fasta = tmp_path / "x.fa"
    fasta.write_text(f">a\n{sequence}\n>b\n{Seq(sequence).reverse_complement()}\n>c\nAC\n")
    assert run_verb(["data", "duplicates", str(fasta), "--near", "1"]) == 0
    said = capsys.readouterr()
    rows = [line.split("\t") for line in said.out.splitlines()]
    assert rows[1:] == [["1.0000", "b", str(fasta), "a", str(fasta)]]
    assert said.err == "1 of 3 records are duplicates\n"
    for wrong, message in (["--near", "2"], "--near 2"), (["--column", "x"], "--column x"):
        with pytest.raises(UserError, match=message):
            run_verb(["data", "duplicates", str(fasta), *wrong])


def test_verify_finds_a_flipped_bit(tmp_path: Path) -> None:
    prefix, _ = make(tmp_path, LAMBDA.read_bytes())
    raw = bytearray(Path(f"{prefix}.bin").read_bytes())
    raw[1000] ^= 1
    Path(f"{prefix}.bin").write_bytes(bytes(raw))
    with pytest.raises(UserError, match=r"out\.bin was changed"):
        run_verb(["data", "verify", prefix])


@pytest.mark.parametrize(
    "words",
    [
        ["--genes", "--reverse-complement"],
        ["--tokenizer", "byte", "--genes"],
        ["--tokenizer", "byte", "--ambiguous", "split"],
        ["--workers", "-1"],
        ["--min-length", "-1"],
        ["--lower-case-weight", "2"],
        ["--tokenizer", "byte", "--unknown-weight", "0"],
        ["--mask-lower-case", "--lower-case-weight", "0.1"],
        ["--tokenizer", "nonsense"],
        ["--colour"],
    ],
)
def test_wrong_flags(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(UserError, match="--"):
        run_verb(["prepare", str(LAMBDA), "--output", str(tmp_path / "x"), *words])
