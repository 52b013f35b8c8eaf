"""Variants of a reference with tags in front: they move no position, and stand before each window.

Against transformers, and against `score` of records that are written by hand.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from longseq.__main__ import main
from longseq.data.tokenizers.registry import tokenizer_from
from longseq.data.tokenizers.tagged import Tagged
from longseq.model.gpt import GPT
from tests.unit.inference.reference import log_likelihoods
from tests.unit.inference.test_variants import END, LONG, SHORT, files, scored
from tests.unit.inference.trained_run import LLAMA, make_model, write_run

TAGS = ["<genome=E. coli>", "<genome=>", "<feature=CDS>"]  # of nucleotide's: 16, 17, 18


@pytest.fixture(scope="module")
def model() -> GPT:
    return make_model(LLAMA, Tagged(tokenizer_from("nucleotide"), TAGS))


@pytest.fixture(scope="module")
def run(model: GPT, tmp_path_factory: pytest.TempPathFactory) -> str:
    tokenizer = Tagged(tokenizer_from("nucleotide"), TAGS)
    return str(write_run(model, tmp_path_factory.mktemp("run"), tokenizer))


def tag(fasta: str, **leads: str) -> None:
    """Put a lead in front of each record that is named."""
    lines = Path(fasta).read_text().split("\n")
    for at, line in enumerate(lines):
        if line.startswith(">") and (lead := leads.get(line[1:].split()[0])):
            lines[at + 1] = lead + lines[at + 1]
    Path(fasta).write_text("\n".join(lines))


def of(model: GPT, tags: list[int], letters: str) -> float:
    """The log-likelihood of the letters behind the token that ends documents and these tags."""
    codes = ["ACGTN".index(letter) for letter in letters]
    return float(log_likelihoods(model, [END, *tags, *codes])[len(tags) :].sum())


def test_tags_move_no_position_and_stand_before_each_window(
    model: GPT, run: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In windows of 34 and 35 tokens, of which 33 and 34 are letters; a record without is plain."""
    base, alt = LONG[119], "ACGT".replace(LONG[119], "")[0]
    fasta, vcf = files(tmp_path, ["short 4 . T A,TGG", f"long 120 . {base} {alt}"])
    plain, _ = scored(run, fasta, vcf, tmp_path, capfd, 34)
    tag(fasta, long="<genome=E. coli>")
    one, error = scored(run, fasta, vcf, tmp_path, capfd, 34)
    assert error == ""
    assert one[:2] == plain[:2]
    tag(fasta, short="<genome=>", long="<feature=CDS>")
    two, _ = scored(run, fasta, vcf, tmp_path, capfd, 35)
    left, right = LONG[103:119], LONG[120:136]
    expected = [
        (one[2], [16], left + base + right, left + alt + right),
        (two[2], [18, 16], left + base + right, left + alt + right),
        (two[0], [17], SHORT, SHORT[:3] + "A" + SHORT[4:]),
        (two[1], [17], SHORT, SHORT[:3] + "TGG" + SHORT[4:]),
    ]
    for row, tags, *alleles in expected:
        for column, letters in zip(("ref", "alt"), alleles, strict=True):
            found = float(row[f"log_likelihood_{column}"])
            assert found == pytest.approx(of(model, tags, letters), abs=2e-3)
        assert abs(float(row["difference"])) > 1e-3
    assert one[2]["log_likelihood_ref"] != two[2]["log_likelihood_ref"]


@pytest.mark.parametrize(("specification", "bases"), [("nucleotide", 1), ("kmer:3", 3)])
def test_they_are_the_scores_of_records_with_the_tag(
    specification: str, bases: int, run: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One whose window begins the record, and one in the midst of it, as `score` has them."""
    if bases > 1:
        tokenizer = Tagged(tokenizer_from(specification), TAGS)
        run = str(write_run(make_model(LLAMA, tokenizer), tmp_path / "run", tokenizer))
    rows = [f"long {at} . {LONG[at - 1]} {LONG[at - 1]}ACG" for at in (5, 151)]
    fasta, vcf = files(tmp_path, rows)
    tag(fasta, long="<genome=E. coli>")
    found, _ = scored(run, fasta, vcf, tmp_path, capfd, 12)
    made, table = tmp_path / "made.fa", tmp_path / "made.tsv"
    for row, start in zip(found, (4, 150), strict=True):
        whole = LONG[:start] + LONG[start] + "ACG" + LONG[start + 1 :]
        pairs = set()
        for left in range(0, start + 1, bases):
            right = left + 11 * bases - 3  # of the reference: the longer allele fills the window
            text = f">ref\n<genome=E. coli>{LONG[left:right]}\n"
            made.write_text(text + f">alt\n<genome=E. coli>{whole[left : right + 3]}\n")
            if right <= start or start - left > 11 * bases:
                continue
            assert main(["score", run, str(made), "--output", str(table)]) == 0
            each = [line.split("\t") for line in table.read_text().splitlines()[1:]]
            pairs.add(tuple(float(columns[3]) for columns in each))
        mine = (float(row["log_likelihood_ref"]), float(row["log_likelihood_alt"]))
        assert any(pair == pytest.approx(mine, abs=1e-4) for pair in pairs)


@pytest.mark.parametrize(
    ("lead", "row", "words", "said"),
    [
        ("<genome=E. coli>", "short 21 . A C", [], "short:21 has REF A and"),
        ("<genome=E. coli>", "short 4 . G A", [], "has T there: give the FASTA"),
        ("<genome=B. coli>", "short 4 . T A", [], "there is no tag <genome=B. coli>; known: "),
        (
            "<genome=E. coli><feature=CDS>",
            "short 4 . T A",
            ["--window", "3"],
            "with the token before it and 2 tags, an allele of 1 letter needs a window of 4",
        ),
        ("<genome=>", "short 1 . A C", ["--window", "1"], "with 1 tag, an allele of 1 letter"),
    ],
)
def test_a_mistake_is_one_line(
    lead: str, row: str, words: list[str], said: str, run: str, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fasta, vcf = files(tmp_path, [row])
    tag(fasta, short=lead)
    assert main(["score", run, fasta, "--variants", vcf, *words]) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert said in error
    assert error.count("\n") == 1


def test_a_network_without_tags_takes_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """They would be letters, and move the others."""
    run = str(write_run(make_model(LLAMA), tmp_path / "run"))
    fasta, vcf = files(tmp_path, ["short 4 . T A"])
    tag(fasta, short="<genome=E. coli>")
    assert main(["score", run, fasta, "--variants", vcf]) == 2
    error = capfd.readouterr().err
    assert "record short begins with '<', and run/step-7 was trained without tags" in error
    assert error.count("\n") == 1
