"""A network that was trained with tags: they come from its checkpoint, and count nothing."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from longseq.__main__ import main
from longseq.checkpoint import trained as checkpoint
from longseq.checkpoint.trained import Trained, find_trained
from longseq.data.datasets import open_datasets
from longseq.data.tokenizers.nucleotides import Nucleotides
from longseq.data.tokenizers.registry import tokenizer_from, write_tokenizer
from longseq.data.tokenizers.tagged import Tagged
from longseq.errors import UserError
from longseq.inference.score import log_likelihood
from longseq.inference.sequences import Reader, Weighing
from longseq.parallel.agreement import Ranks
from tests.unit.inference.trained_run import LLAMA, make_model, write_run

TAGS = ["<genome=E. coli>", "<genome=>", "<feature=CDS>"]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    write_tokenizer(Tagged(Nucleotides(), TAGS), tmp_path)
    said = SimpleNamespace(tokenizer="tagged:nucleotide", vocabulary=19)
    tokenizer = checkpoint._tokenizer(tmp_path, cast(Any, said))
    assert tokenizer.names()[16:] == TAGS
    assert tokenizer.decode(np.array([18, 16, 0, 1, 15, 17])) == (
        "<feature=CDS><genome=E. coli>AC|<genome=>"
    )
    return Reader(Trained(tmp_path, cast(Any, said), cast(Any, None), tokenizer), [], Weighing())


def test_tags_in_front_are_tokens_that_count_nothing(reader: Reader) -> None:
    sequence = reader.encode("x", "r", b"<feature=CDS><genome=E. coli>acg\nT")
    assert sequence.tokens.tolist() == [18, 16, 0, 1, 2, 3]
    assert (sequence.letters, sequence.tags) == (4, 2)
    losses = np.array([9, 9, 1, 2, 3, 4], np.float32)
    assert log_likelihood(sequence, losses) == (-10.0, 4.0)
    plain = reader.encode("x", "r", b"ACGT")
    assert plain.tokens.tolist() == [0, 1, 2, 3]
    assert plain.weights is None


def test_a_tag_that_it_was_not_trained_with_is_refused(reader: Reader) -> None:
    """Named, with those that there are, the likest first."""
    for text, shown in (
        (b"<genome=B. coli>ACGT", "<genome=B. coli>"),
        (b"<feature=CDS><genom=E. coli>ACGT", "<genom=E. coli>"),
        (b"<genome", "<genome"),
    ):
        with pytest.raises(UserError) as raised:
            reader.encode("x", "r", text)
        said = str(raised.value)
        assert said.startswith(f"x: record r: there is no tag {shown}; known: <genome=")
        assert all(name in said for name in TAGS)


def test_a_text_may_begin_with_what_looks_like_a_tag() -> None:
    tokenizer = Tagged(tokenizer_from("byte"), TAGS)
    assert tokenizer.lead(b"<html>")[1] == b"<html>"
    assert tokenizer.lead(b"<genome=>< 3")[1] == b"< 3"
    with pytest.raises(UserError, match="there is no tag <genome=other>; known: "):
        tokenizer.lead(b"<genome=other>text")
    many = Tagged(Nucleotides(), [f"<n={n}>" for n in range(100)])
    with pytest.raises(UserError, match=r"no tag <n=>; known: <n=\d+>, .* and 92 others$"):
        many.lead(b"<n=>ACGT")


@pytest.mark.parametrize("order", [1, -1])
def test_a_tag_may_begin_as_another_one_is(order: int) -> None:
    """In the order in which they were found in the data, which is any."""
    tags = ["<product=(1->", "<product=(1->4)-glucan>"]
    tokenizer = Tagged(Nucleotides(), tags[::order])
    for tag in tags:
        tokens, rest = tokenizer.lead(f"{tag}ACGT".encode())
        assert (tokenizer.decode(tokens), rest) == (tag, b"ACGT")


def test_a_letter_that_is_none_behind_a_tag(reader: Reader) -> None:
    with pytest.raises(UserError, match="record r: letter 1 is no nucleotide"):
        reader.encode("x", "r", b"<genome=>JACGT")


def test_a_list_of_tags_that_is_damaged(tmp_path: Path) -> None:
    write_tokenizer(Tagged(Nucleotides(), TAGS), tmp_path)
    (tmp_path / "tags.json").write_text('["a", 3]')
    said = SimpleNamespace(tokenizer="tagged:nucleotide", vocabulary=19)
    with pytest.raises(UserError, match=r"tags\.json is not a list of tags"):
        checkpoint._tokenizer(tmp_path, cast(Any, said))


# ---------------------------------------------------------------- evaluated


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data with tags, and a run of their tokens that held out the last record."""
    folder = tmp_path_factory.mktemp("tagged")
    draw = np.random.default_rng(2)
    records = ["".join(draw.choice(list("ACGT"), 40)) for _ in range(3)]
    (folder / "x.fa").write_text("".join(f">r{n}\n{text}\n" for n, text in enumerate(records)))
    (folder / "m.tsv").write_text("name\torganism\nr0\tA\nr1\tB\nr2\tB\n")
    words = ["--metadata", f"{folder}/m.tsv", "--tags", "organism", "--output", f"{folder}/data"]
    assert main(["prepare", f"{folder}/x.fa", *words]) == 0
    (dataset,) = open_datasets(f"{folder}/data")
    run = write_run(make_model(LLAMA, dataset.tokenizer), folder / "run", dataset.tokenizer)
    (run / "held_out.tsv").write_text(
        f"part\tdata\tdocument\ttokens\trecord\tfile\nvalid\t{folder}/data\t2\tall\tr2\tx.fa\n"
    )
    (folder / "r2.fa").write_text(f">r2\n<organism=B>{records[2]}\n")
    (folder / "plain.fa").write_text("".join(f">r{n}\n{records[n]}\n" for n in range(3)))
    return folder


@pytest.mark.parametrize("window", [96, 12])
def test_an_evaluation_counts_no_tags(window: int, tagged: Path, tmp_path: Path) -> None:
    """Neither their losses nor themselves as letters, held out or in a file; baselines see none."""
    table, each, out = tmp_path / "s.tsv", tmp_path / "each.npy", tmp_path / "e.json"
    cuts = ["--window", str(window)]
    words = [*cuts, "--output", str(table), "--per-position", str(each)]
    assert main(["score", f"{tagged}/run", f"{tagged}/r2.fa", *words]) == 0
    likelihoods = np.load(each)
    assert len(likelihoods) == 41
    bits = -float(likelihoods[1:].sum()) / math.log(2) / 40
    assert float(table.read_text().split()[-1]) == pytest.approx(bits, abs=1e-5)
    text = (tagged / "r2.fa").read_text().split(">")[2].strip()
    for given in ([], [f"{tagged}/r2.fa"]):
        assert main(["evaluate", f"{tagged}/run", *given, *cuts, "--json", str(out)]) == 0
        found = json.loads(out.read_text())
        assert (found["letters"], found["tokens"]) == (40, 40)
        assert found["bits_per_letter"]["network"] == pytest.approx(bits, rel=1e-5)
        (record,) = found["by_record"]
        assert record["tokens"] == 40
        assert record["bits_per_letter"] == pytest.approx(bits, rel=1e-5)
        zlib_bits = 8 * len(zlib.compress(text.encode(), 9)) / 40
        assert found["bits_per_letter"]["zlib"] == pytest.approx(zlib_bits)
        first = found["by_position"][0]
        if window == 96:  # in one window, where the tag is context
            assert first["from"] == 2
            assert first["loss"] == pytest.approx(-likelihoods[1], abs=1e-5)
    learnt = ["--train", f"{tagged}/plain.fa", "--json", str(out)]
    assert main(["evaluate", f"{tagged}/run", f"{tagged}/r2.fa", *learnt]) == 0
    found = json.loads(out.read_text())
    plain = write_run(make_model(LLAMA), tmp_path / "plain")
    (tmp_path / "r2.fa").write_text(f">r2\n{text}\n")
    assert main(["evaluate", str(plain), f"{tmp_path}/r2.fa", *learnt]) == 0
    assert found["markov"] == json.loads(out.read_text())["markov"]


def test_weighted_scores_count_no_tags(tmp_path: Path) -> None:
    """Whatever a tag counts for in training: letters of weight 1 and 0.25, from what each token
    has.
    """
    (tmp_path / "x.fa").write_text(">r0\nACGTacgtGG\n>r1\nTTTgaA\n")
    (tmp_path / "m.tsv").write_text("name\torganism\tkind\nr0\tA\tx\nr1\tB\ty\n")
    words = ["--metadata", f"{tmp_path}/m.tsv", "--tags", "organism,kind", "--tag-weight", "0.5"]
    words += ["--lower-case-weight", "0.25", "--output", f"{tmp_path}/data"]
    assert main(["prepare", f"{tmp_path}/x.fa", *words]) == 0
    (dataset,) = open_datasets(f"{tmp_path}/data")
    run = write_run(make_model(LLAMA, dataset.tokenizer), tmp_path / "run", dataset.tokenizer)
    table, each = tmp_path / "s.tsv", tmp_path / "each.npy"
    words = ["--weighted", "--output", str(table), "--per-position", str(each)]
    assert main(["score", str(run), f"{tmp_path}/data", *words]) == 0
    found, at = np.load(each).astype(np.float64), 0
    for line, text in zip(
        table.read_text().splitlines()[1:], ("ACGTacgtGG", "TTTgaA"), strict=True
    ):
        weights = np.array([0.25 if letter.islower() else 1 for letter in text])
        total = weights @ found[at + 2 : at + 2 + len(text)]
        at += 2 + len(text)
        bits = -total / math.log(2) / weights.sum()
        assert [float(value) for value in line.split("\t")[3:]] == pytest.approx(
            [total, bits], abs=1e-5
        )
    assert at == len(found)


def test_baselines_of_a_run_learn_from_letters_alone(tagged: Path, tmp_path: Path) -> None:
    from longseq.inference.evaluation.held_out import held_out

    given = held_out(find_trained(tagged / "run", print, Ranks()), "valid")
    letters = (tagged / "plain.fa").read_text().split()
    learnt = "".join(map(Nucleotides().decode, given.train))
    assert learnt.split("|")[:2] == [letters[1], letters[3]]
    assert "<" not in learnt


def test_positions_of_tags_are_0(tagged: Path, tmp_path: Path) -> None:
    each = tmp_path / "each.tsv"
    words = ["--per-position", str(each), "--output", f"{tmp_path}/s.tsv"]
    assert main(["score", f"{tagged}/run", f"{tagged}/r2.fa", *words]) == 0
    found = [line.split("\t")[1] for line in each.read_text().splitlines()[1:]]
    assert found == [str(n) for n in range(41)]
