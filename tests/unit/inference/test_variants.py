"""What variants do to the likelihood, against transformers on the same letters."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from longseq.__main__ import main
from longseq.model.gpt import GPT
from tests.unit.inference.reference import log_likelihoods
from tests.unit.inference.trained_run import LLAMA, make_model, write_run

END = 15
SHORT = "ACGTTGCATTACGTACCATG"
LONG = "ACGTTGCAGGACGTACTTGACCA" * 12
HEADER = (
    "##fileformat=VCFv4.2\n##contig=<ID=short>\n##contig=<ID=long>\n"
    '##ALT=<ID=DEL,Description="gone">\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n'
)


@pytest.fixture(scope="module")
def model() -> GPT:
    return make_model(LLAMA)


@pytest.fixture(scope="module")
def run(model: GPT, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_run(model, tmp_path_factory.mktemp("run")))


def files(folder: Path, rows: list[str]) -> tuple[str, str]:
    fasta, vcf = folder / "reference.fa", folder / "calls.vcf"
    fasta.write_text(f">short the first\n{SHORT}\n>long\n{LONG[:100]}\n{LONG[100:]}\n")
    vcf.write_text(HEADER + "".join(row.replace(" ", "\t") + "\t.\t.\t.\n" for row in rows))
    return str(fasta), str(vcf)


def of(model: GPT, letters: str, begins: bool) -> float:
    codes = ["ACGTN".index(letter) for letter in letters]
    return float(log_likelihoods(model, [END, *codes] if begins else codes).sum())


def test_differences_are_those_of_transformers(model: GPT, run: str, tmp_path: Path) -> None:
    rows = ["short 4 rs1 T A,TGG", "short 10 . TAC T", "short 12 . C <DEL>", "long 120 . T C"]
    rows[3] = f"long 120 . {LONG[119]} {'C' if LONG[119] != 'C' else 'G'}"
    fasta, vcf = files(tmp_path, rows)
    out = tmp_path / "out.tsv"
    words = ["--variants", vcf, "--window", "33", "--output", str(out)]
    assert main(["score", run, fasta, *words]) == 0
    with out.open() as file:
        found = list(csv.DictReader(file, delimiter="\t"))
    alt = rows[3].split()[-1]
    flanks = LONG[103:119], LONG[120:136]
    expected = [
        (of(model, SHORT, True), of(model, SHORT[:3] + "A" + SHORT[4:], True)),
        (of(model, SHORT, True), of(model, SHORT[:3] + "TGG" + SHORT[4:], True)),
        (of(model, SHORT, True), of(model, SHORT[:10] + SHORT[12:], True)),
        (math.nan, math.nan),
        (of(model, LONG[103:136], False), of(model, flanks[0] + alt + flanks[1], False)),
    ]
    assert [row["position"] for row in found] == ["4", "4", "10", "12", "120"]
    assert [row["alt"] for row in found] == ["A", "TGG", "T", "<DEL>", alt]
    for row, (ref, other) in zip(found, expected, strict=True):
        assert float(row["log_likelihood_ref"]) == pytest.approx(ref, abs=2e-3, nan_ok=True)
        assert float(row["log_likelihood_alt"]) == pytest.approx(other, abs=2e-3, nan_ok=True)
        assert float(row["difference"]) == pytest.approx(other - ref, abs=4e-3, nan_ok=True)


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        (["short 4 . G A"], [], "short:4 has REF G and"),
        (["short 20 . GTT A"], [], "short:20 has REF GTT and"),
        (["short 4 . T A", "other 1 . A C"], [], "has no record other"),
        ([], [], "holds no variant"),
        (["short 4 . T A"], ["--per-position", "x.tsv"], "--per-position and --variants"),
        (["short 4 . T A"], ["--stride", "3", "--window", "9"], "--stride and --variants"),
    ],
)
def test_a_mistake_is_one_line(
    rows: list[str],
    words: list[str],
    said: str,
    run: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fasta, vcf = files(tmp_path, rows)
    assert main(["score", run, fasta, "--variants", vcf, *words]) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert said in error
    assert error.count("\n") == 1


def test_what_is_no_vcf_is_one_line(
    run: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fasta, _ = files(tmp_path, [])
    assert main(["score", run, fasta, "--variants", fasta]) == 2
    error = capfd.readouterr().err
    assert "cannot be read as VCF" in error
    assert error.count("\n") == 1
