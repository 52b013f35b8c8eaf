"""Figures of an evaluation against what counts, Biopython and the scores themselves say."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from Bio.Seq import Seq

from longseq.__main__ import main
from longseq.checkpoint.trained import find_trained
from longseq.data.indexed.format import IndexedTokens
from longseq.data.indexed.writer import IndexedWriter
from longseq.data.samples.entropy import ALPHA, Labels, markov
from longseq.inference.evaluation.codons import coding, places, shuffled
from longseq.inference.evaluation.held_out import NO_GENE, held_out
from longseq.parallel.agreement import Ranks
from tests.unit.inference.trained_run import LLAMA, make_model, write_run

GENERATOR = np.random.default_rng(3)
TRAIN = "".join(GENERATOR.choice(list("ACGT"), 600, p=[0.4, 0.1, 0.2, 0.3]))
RECORDS = ["".join(GENERATOR.choice(list("ACGT"), n)) for n in (150, 96, 40)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_run(make_model(LLAMA), tmp_path_factory.mktemp("run")))


def fasta(path: Path, texts: list[str]) -> str:
    path.write_text("".join(f">r{n}\n{text}\n" for n, text in enumerate(texts)))
    return str(path)


def bits_by_counting(train: str, texts: list[str], order: int) -> float:
    """How often each letter followed each context; 4 letters and a document's start."""
    follows: Counter[tuple[str, str]] = Counter()
    seen: Counter[str] = Counter()
    padding = "^" * order
    for at, letter in enumerate(train):
        context = (padding + train)[at : at + order]
        follows[context, letter] += 1
        seen[context] += 1
    total = 0.0
    for text in texts:
        for at, letter in enumerate(text):
            context = (padding + text)[at : at + order]
            p = (follows[context, letter] + ALPHA) / (seen[context] + 5 * ALPHA)
            total -= math.log2(p)
    return total / sum(map(len, texts))


def test_figures_are_those_of_scores_and_counts(run: str, tmp_path: Path) -> None:
    files = fasta(tmp_path / "new.fa", RECORDS), fasta(tmp_path / "old.fa", [TRAIN])
    found, drawn = tmp_path / "found.json", tmp_path / "found.svg"
    words = ["--train", files[1], "--json", str(found), "--picture", str(drawn), "--stride", "96"]
    assert main(["evaluate", run, files[0], *words]) == 0
    figures = json.loads(found.read_text())
    each = tmp_path / "each.npy"
    more = ["--window", "96", "--stride", "96", "--per-position", str(each)]
    assert main(["score", run, files[0], *more, "--output", str(tmp_path / "s.tsv")]) == 0
    losses = -np.load(each)
    letters = sum(map(len, RECORDS))
    bits = figures["bits_per_letter"]
    assert bits["network"] == pytest.approx(losses.sum() / math.log(2) / letters, rel=1e-5)
    # windows begin with the records, 96 tokens further on (the last one ends with its record)
    first = losses[[0, 150, 246]]
    assert figures["by_position"][0]["to"] == 1
    one = figures["by_position"][0]["loss"] * 4 - first.sum()
    assert one > 0  # the fourth window's first token, which is context there
    assert figures["by_record"][1]["bits_per_letter"] == pytest.approx(
        losses[150:246].sum() / math.log(2) / 96, rel=1e-5
    )
    for order in (0, 2, 3):
        expected = bits_by_counting(TRAIN, RECORDS, order)
        assert figures["markov"]["orders"][str(order)] == pytest.approx(expected, rel=1e-9)
    chosen = min(range(4), key=lambda k: bits_by_counting(TRAIN[:540], [TRAIN[540:]], k))
    assert figures["markov"]["chosen"] == chosen
    assert drawn.read_text().startswith("<?xml")


def test_a_markov_model_learns_a_rule_of_its_order() -> None:
    text = np.tile(np.array([0, 0, 1, 1], np.uint8), 400)  # two letters tell the next one
    orders, chosen = markov([Labels(text)], [Labels(text[:100])])
    assert orders[1] > 0.9
    assert orders[2] < 0.1
    assert chosen >= 2


def test_places_and_coding_follow_the_strand() -> None:
    letters = "TTATGAAATAGCCTTACATGG"
    genes = [(2, 11, False), (11, 20, True)]
    assert places(21, genes).tolist() == [0, 0, *[1, 2, 3] * 3, *[-3, -2, -1] * 3, 0]
    expected = [letters[2:11], str(Seq(letters[11:20]).reverse_complement())]
    assert coding(letters, genes) == expected


def test_what_is_shorter_than_a_codon_is_no_gene() -> None:
    """As an annotated coding sequence of one letter or two is cut to whole codons."""
    assert coding("AT", [(0, 0, False), (2, 2, True), (2, -1, False)]) == []


def test_shuffled_genes_are_the_same_protein() -> None:
    gene = "ATG" + "".join(GENERATOR.choice(["CTG", "TTA", "AAA", "AAG", "GGC", "GGT"], 60)) + "TAA"
    other = shuffled(gene, np.random.default_rng(1))
    assert other != gene
    assert Seq(other).translate(table=11) == Seq(gene).translate(table=11)
    codons = [Counter(text[at : at + 3] for at in range(0, len(gene), 3)) for text in (gene, other)]
    assert codons[0] == codons[1]


GFF = """##gff-version 3
g\tx\tCDS\t1\t48\t.\t+\t0\tID=a
g\tx\tCDS\t50\t91\t.\t-\t2\tID=b
g\tx\ttRNA\t100\t130\t.\t+\t.\tID=t
"""


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A genome's coding sequences, one of which begins in the middle of a codon, and a tRNA."""
    folder = tmp_path_factory.mktemp("annotated")
    path = fasta(folder / "g.fa", [RECORDS[0]])
    Path(path).write_text(Path(path).read_text().replace(">r0", ">g"))
    (folder / "g.gff").write_text(GFF)
    words = ["--annotation", f"{folder}/g.gff", "--features", "CDS,tRNA", "--output", f"{folder}/g"]
    assert main(["prepare", path, *words]) == 0
    return f"{folder}/g"


def test_annotated_coding_sequences_are_the_genes(
    run: str, annotated: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In their own frames, on their own strand; none is called in them, nor in what is no gene."""
    found, each = tmp_path / "found.json", tmp_path / "each.npy"
    assert main(["evaluate", run, annotated, "--genes", "--json", str(found)]) == 0
    words = ["--per-position", str(each), "--output", str(tmp_path / "s.tsv")]
    assert main(["score", run, annotated, *words]) == 0
    figures, losses = json.loads(found.read_text()), -np.load(each)
    assert len(losses) == 48 + 42 + 31
    expected = {
        str(place + 1): [*losses[place:48:3], *losses[48 + (place + 2) % 3 : 90 : 3]]
        for place in range(3)
    }
    means = {name: float(np.mean(some)) for name, some in expected.items()}
    assert figures["by_codon_position"] == pytest.approx(means, rel=1e-5)
    assert figures["genes"]["compared"] == 2
    assert "other strand" not in capsys.readouterr().out


def test_a_frame_is_that_of_the_part_that_was_held_out(run: str, annotated: str) -> None:
    """A document may be cut in the middle of a codon."""
    table = Path(run) / "held_out.tsv"
    rows = "".join(
        f"valid\t{annotated}\t{row}\tg\tg.fa\n"
        for row in ("0\tall", "0\t4-40", "1\tall", "1\t7-20", "2\tall")
    )
    table.write_text("part\tdata\tdocument\ttokens\trecord\tfile\n" + rows)
    given = held_out(find_trained(Path(run), print, Ranks()), "valid")
    table.unlink()
    assert given.frames == [0, 2, 2, 1, NO_GENE]


@pytest.mark.parametrize(("specification", "lead"), [("codon", 1), ("codon", 0), ("kmer:3", 0)])
def test_a_network_of_codons_scores_genes_against_their_codons_shuffled(
    specification: str, lead: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of prepared coding sequences, from their frame on, as `score` finds both."""
    run = str(write_run(make_model(LLAMA, specification), tmp_path / "run", specification))
    gene = "ATG" + "".join(GENERATOR.choice(["CTG", "TTA", "AAA", "AAG", "GGC"], 40)) + "TAA"
    (tmp_path / "g.gff").write_text(f"r0\tx\tCDS\t{3 - lead}\t128\t.\t+\t{lead}\tID=a\n")
    fasta(tmp_path / "g.fa", [f"CC{gene}GG"])
    pair = fasta(tmp_path / "pair.fa", [gene, shuffled(gene, np.random.default_rng(0))])
    prefix, found, table = f"{tmp_path}/g", tmp_path / "found.json", tmp_path / "s.tsv"
    words = ["--annotation", f"{prefix}.gff", "--tokenizer", specification, "--output", prefix]
    assert main(["prepare", f"{prefix}.fa", *words]) == 0
    assert main(["score", run, pair, "--output", str(table)]) == 0
    own, other = (float(row.split("\t")[3]) for row in table.read_text().splitlines()[1:])
    capsys.readouterr()
    assert main(["evaluate", run, prefix, "--genes", "--json", str(found)]) == 0
    figures = json.loads(found.read_text())
    assert figures["genes"]["compared"] == 1
    gain = figures["genes"]["nats_a_codon_above_shuffled"]
    assert gain == pytest.approx((own - other) / 42, abs=1e-4)
    assert "by_codon_position" not in figures
    said = capsys.readouterr().err
    assert f"{specification} has no token for each letter: no losses by codon position" in said


def test_genes_whose_frame_is_not_known_are_refused(
    run: str, annotated: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of data that a former version made; what needs no frame is told."""
    table = Path(f"{annotated}.documents.tsv")
    before = table.read_text()
    table.write_text(before.replace('"codon_start"', '"codon start"'))
    try:
        assert main(["evaluate", run, annotated, "--genes", "--dry-run"]) == 2
        assert "does not say where codons begin" in capsys.readouterr().err
        assert main(["evaluate", run, annotated]) == 0
        assert "codon position" not in capsys.readouterr().out
    finally:
        table.write_text(before)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "held_out.tsv: No such file or directory: name files to evaluate"),
        (["--train", "x.fa"], "--train is for files"),
        (["new.fa", "--picture", "x.png"], "--picture x.png: end it in one of .svg"),
        (["nowhere.fa"], "nowhere.fa: no such file or folder"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", run, *words]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("data", "number", "said", "remedy"),
    [
        ("-gone", 0, ", the data that the run held records out of ({table})", "it back"),
        ("", 10**6, " has {count} documents, and {table} names its document", "those back"),
    ],
)
def test_data_that_are_gone_name_what_evaluate_takes(
    run: str, annotated: str, capsys: pytest.CaptureFixture[str],
    data: str, number: int, said: str, remedy: str,
) -> None:  # fmt: skip
    """Gone, or in their place others with fewer documents."""
    table, gone = Path(run) / "held_out.tsv", annotated + data
    count = IndexedTokens(annotated).num_documents
    row = f"valid\t{gone}\t{number}\tall\tg\tg.fa\n"
    table.write_text("part\tdata\tdocument\ttokens\trecord\tfile\n" + row)
    try:
        assert main(["evaluate", run]) == 2
    finally:
        table.unlink()
    error = capsys.readouterr().err
    assert error.startswith(f"longseq: {gone}" + said.format(table=table, count=count))
    assert error.endswith(f"put {remedy}, or name files to evaluate behind RUN\n")
    assert error.count("\n") == 1


def test_data_without_a_manifest_have_the_tokens_of_the_network(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whose checkpoint says what nothing else does; an empty document among them is left out."""
    prefix, table = str(tmp_path / "g"), Path(run) / "held_out.tsv"
    rows = "".join(f"valid\t{prefix}\t{row}\tall\t\t\n" for row in (0, 1))
    table.write_text("part\tdata\tdocument\ttokens\trecord\tfile\n" + rows)
    for last, code in (([0, 1, 2, 3, 4], 0), ([99, 4], 2)):
        writer = IndexedWriter(prefix, np.uint8)
        for tokens in ([], last):
            writer.add(np.array(tokens, np.uint8))
            writer.end_document()
        writer.finish()
        assert main(["evaluate", run]) == code
    table.unlink()
    assert main(["score", run, prefix, "--output", f"{prefix}.tsv"]) == 2
    error = capsys.readouterr().err
    said = f"longseq: {prefix}.bin holds token 99 outside the vocabulary of 16 of nucleotide\n"
    assert error == 2 * said


def test_losses_that_are_no_numbers_are_said_and_drawn_as_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a network whose weights are numbers still, and what it makes of them are none."""
    model = make_model(LLAMA)
    for name, parameter in model.named_parameters():
        parameter.data.mul_(1e30 if name in ("norm.weight", "head.weight") else 1)
    run, files = str(write_run(model, tmp_path / "run")), fasta(tmp_path / "new.fa", RECORDS)
    words = ["--genes", "--json", f"{tmp_path}/e.json", "--picture", f"{tmp_path}/e.svg"]
    words += ["--train", fasta(tmp_path / "old.fa", [TRAIN])]
    assert main(["evaluate", run, files, *words]) == 0
    told, error = capsys.readouterr()
    assert "losses of the network are no numbers" in told
    assert told.index("  lzma ") < told.index("  network ")
    assert "±" not in told
    assert "Traceback" not in error
    figures = json.loads((tmp_path / "e.json").read_text(), parse_constant=pytest.fail)
    assert figures["bits_per_letter"]["network"] is None
    assert {(one["loss"], one["error"]) for one in figures["by_position"]} == {(None, None)}
    assert "losses are no numbers" in (tmp_path / "e.svg").read_text()
