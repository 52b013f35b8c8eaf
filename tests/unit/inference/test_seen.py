"""How much of what is evaluated was learned from, by counting words as text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from Bio.Seq import Seq

from longseq.__main__ import main
from longseq.errors import UserError
from longseq.inference.evaluation.evaluate import _seen
from longseq.inference.evaluation.seen import seen
from tests.unit.inference.trained_run import LLAMA, make_model, write_run

PLACE = "longseq.inference.evaluation.seen"
HELD_OUT = "longseq.inference.evaluation.held_out"
EVALUATE = "longseq.inference.evaluation.evaluate"
DRAW = np.random.default_rng(7)


def drawn(size: int) -> str:
    return "".join(DRAW.choice(list("ACGT"), size))


def other_strand(text: str) -> str:
    return str(Seq(text).reverse_complement())


def words(text: str) -> list[str]:
    found = [text[at : at + 31] for at in range(len(text) - 30)]
    return [word for word in found if set(word) <= set("ACGT")]


def by_counting(train: list[str], judged: list[str]) -> float:
    known = {word for text in train for both in (text, other_strand(text)) for word in words(both)}
    mine = [word for text in judged for word in words(text)]
    return sum(word in known for word in mine) / len(mine)


@pytest.mark.parametrize("block", [1 << 20, 1, 50])
def test_words_of_either_strand_are_counted(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks of any size; what stands twice counts twice, and no word lies over two texts."""
    monkeypatch.setattr(f"{PLACE}.BLOCK", block)
    train = [drawn(300), drawn(31), drawn(200) + "N" + drawn(100), drawn(5)]
    judged = [
        train[0][40:120] + drawn(60),
        other_strand(train[2])[20:190],
        train[0][-20:] + train[1][:20],
        train[0][100:140] * 2,
        drawn(30),
    ]
    share = seen([text.encode() for text in train], [text.encode() for text in judged])
    assert share == pytest.approx(by_counting(train, judged))
    assert 0.2 < by_counting(train, judged) < 0.9
    rna = [text.lower().replace("t", "u").encode() for text in judged]
    assert seen([text.encode() for text in train], rna) == share


def test_texts_without_a_word_say_nothing() -> None:
    assert (
        seen([b"ACGT" * 20], [b"ACGT", b"N" * 90, b"a text of other letters than these four"])
        is None
    )
    assert seen([], [b"ACGTTGCA" * 9]) == 0


def test_of_long_texts_a_sample_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{PLACE}.HELD", 4000)
    train, judged = drawn(60_000), drawn(30_000)
    judged += train[10_000:20_000] + other_strand(train[40_000:60_000])
    share = seen([train.encode()], [judged.encode()])
    assert share != by_counting([train], [judged])
    assert share == pytest.approx(by_counting([train], [judged]), abs=0.04)  # 5 standard errors


def test_an_evaluation_says_what_was_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(write_run(make_model(LLAMA), tmp_path / "run"))
    old, new = drawn(600), drawn(60)
    judged = [other_strand(old[50:130]), new]
    (tmp_path / "old.fa").write_text(f">o\n{old}\n")
    (tmp_path / "new.fa").write_text(">a\n" + "\n>b\n".join(judged) + "\n")
    files, out = [f"{tmp_path}/new.fa", "--json", f"{tmp_path}/e.json"], tmp_path / "e.json"
    assert main(["evaluate", run, *files, "--train", f"{tmp_path}/old.fa"]) == 0
    assert json.loads(out.read_text())["seen_in_training_part"] == by_counting([old], judged)
    said = "62.5% of the words of 31 letters here stand in the training part as well, on either"
    assert said in capsys.readouterr().out
    (tmp_path / "old.fa").write_text(f">o\n{drawn(600)}\n")
    assert main(["evaluate", run, *files, "--train", f"{tmp_path}/old.fa"]) == 0
    assert json.loads(out.read_text())["seen_in_training_part"] == 0
    assert "as well" not in capsys.readouterr().out
    assert main(["evaluate", run, *files]) == 0
    assert "seen_in_training_part" not in json.loads(out.read_text())


@pytest.mark.parametrize("block", [1 << 20, 70])
def test_the_whole_training_part_is_searched(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What baselines do not learn from as well, of files and of a run's own data; no word is lost
    where they end. Where it is too large, it is said that nothing was looked for.
    """
    monkeypatch.setattr(f"{HELD_OUT}.MOST", 200)
    monkeypatch.setattr(f"{HELD_OUT}.BLOCK", block)
    run, out = str(write_run(make_model(LLAMA), tmp_path / "run")), tmp_path / "e.json"
    old, prefix = drawn(600), f"{tmp_path}/old"
    new = old[150:250] + old[400:500]
    (tmp_path / "old.fa").write_text(f">a\n{old}\n>b\n{new}\n")
    (tmp_path / "new.fa").write_text(f">a\n{old[150:250]}\n>b\n{old[400:500]}\n")
    (tmp_path / "first.fa").write_text(f">a\n{old}\n")
    files = [f"{tmp_path}/new.fa", "--train", f"{tmp_path}/first.fa"]
    assert main(["prepare", f"{prefix}.fa", "--output", prefix]) == 0
    row = f"valid\t{prefix}\t1\tall\tb\told.fa\n"
    (tmp_path / "run" / "held_out.tsv").write_text(
        "part\tdata\tdocument\ttokens\trecord\tfile\n" + row
    )
    for words, share in ((files, 1.0), ([], by_counting([old], [new]))):
        assert main(["evaluate", run, *words, "--json", str(out)]) == 0
        figures = json.loads(out.read_text())
        assert figures["seen_in_training_part"] == share
        assert figures["baselines_learned_from_tokens"] == 200
    monkeypatch.setattr(f"{EVALUATE}.SEARCHED", 599)
    capsys.readouterr()
    for words in (files, []):
        assert main(["evaluate", run, *words, "--json", str(out)]) == 0
        assert json.loads(out.read_text())["seen_in_training_part"] is None
        assert "was not found out: it has more than 599 tokens" in capsys.readouterr().out


def test_a_training_file_that_turns_out_bad_costs_this_figure_alone() -> None:
    """What a network was asked is known by then."""

    def train() -> Iterator[bytes]:
        yield b"ACGTTGCA" * 9
        raise UserError("old.fa: record z is empty: leave it out")

    found = _seen(9, train(), [drawn(90).encode()])
    assert found.pop("seen_in_training_part") is None
    assert found == {"seen_unknown": "old.fa: record z is empty: leave it out"}
