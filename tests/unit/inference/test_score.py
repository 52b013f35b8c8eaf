"""Scores against transformers' networks with the same weights, and what is refused."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longseq.__main__ import main
from longseq.data.sources.names import Names
from longseq.errors import UserError
from longseq.inference.tables import open_table
from longseq.model.gpt import GPT
from tests.unit.inference.reference import log_likelihoods
from tests.unit.inference.trained_run import LLAMA, make_model, write_run

LENGTH = 96
RECORDS = {"long one": "ACGTTGCANNACGTRC" * 12, "short": "GATTACA", "exact": "ACGGT" * 19 + "A"}
END = 15


@pytest.fixture(scope="module")
def model() -> GPT:
    return make_model(LLAMA, length=LENGTH)


@pytest.fixture(scope="module")
def run(model: GPT, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_run(model, tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("fasta") / "records.fa"
    path.write_text(
        "".join(f">{name}\n{text[:50]}\n{text[50:]}\n" for name, text in RECORDS.items())
    )
    return str(path)


def codes(text: str) -> list[int]:
    return ["ACGTNRYSWKMBDHV".index(letter) for letter in text]


def test_a_table_of_two_columns_is_scored_as_its_fasta(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By --column, which the refusal names; every verb that reads files has it."""
    table, out = tmp_path / "x.parquet", tmp_path / "out.tsv"
    some = {"seq": ["GATTACA", "ACGTACGTAC"], "who": ["a", "b"], "length": [7, 10]}
    pq.write_table(pa.table(some), table)
    (tmp_path / "x.fa").write_text(">a\nGATTACA\n>b\nACGTACGTAC\n")
    assert main(["score", run, str(tmp_path / "x.fa"), "--output", str(out)]) == 0
    expected = rows(out)
    assert main(["score", run, str(table), "--output", str(out)]) == 2
    assert "2 columns hold strings (seq, who): say which with --column" in capsys.readouterr().err
    words = ["--column", "seq", "--name-column", "who"]
    assert main(["score", run, str(table), "--output", str(out), *words]) == 0
    assert rows(out) == expected
    npy = str(tmp_path / "x.npy")
    for verb in (["embed", "--output", npy], ["generate", "--max-new-tokens", "2"], ["evaluate"]):
        assert main([verb[0], run, str(table), *verb[1:], *words, "--dry-run"]) == 0
        assert main([verb[0], run, str(tmp_path / "x.fa"), *verb[1:], *words, "--dry-run"]) == 2
        assert "--column seq: no input is a table" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["out.tsv", "out.npy"])
def test_a_folder_that_is_removed_meanwhile_is_named(tmp_path: Path, name: str) -> None:
    out = tmp_path / "folder" / name

    def write() -> None:
        with open_table(out, {"x": float}) as table:
            table.add({"x": [1.0]})
            shutil.rmtree(out.parent)

    with pytest.raises(UserError) as caught:
        write()
    text = f"{out.parent} is gone: it was removed or moved while this run used it"
    assert str(caught.value) == f"{out} cannot be written: {text}"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def by_windows(model: GPT, text: str, size: int, stride: int) -> np.ndarray[Any, Any]:
    """Each token from the first window that holds it, by the definition alone."""
    stream = [END, *codes(text)]
    count = len(text)
    found = np.full(count, np.nan)
    start = 0
    while np.isnan(found).any():
        start = min(start, max(0, count - size))
        stop = min(start + size, count)
        each = log_likelihoods(model, stream[start : stop + 1])
        new = np.isnan(found[start:stop])
        found[start:stop][new] = each[new]
        start += stride
    return found


def test_scores_are_those_of_transformers(model: GPT, run: str, fasta: str, tmp_path: Path) -> None:
    table, each = tmp_path / "scores.tsv", tmp_path / "each.parquet"
    words = ["--window", "64", "--stride", "24", "--output", str(table)]
    assert main(["score", run, fasta, *words, "--per-position", str(each)]) == 0
    expected = {name: by_windows(model, text, 64, 24) for name, text in RECORDS.items()}
    positions = pq.read_table(each).to_pydict()
    together = np.concatenate(list(expected.values()))
    np.testing.assert_allclose(positions["log_likelihood"], together, atol=2e-4, rtol=0)
    assert positions["token"] == list("".join(RECORDS.values()))
    for row, (name, text) in zip(rows(table), RECORDS.items(), strict=True):
        total = float(expected[name].sum())
        assert row["record"] == name.split()[0]
        assert int(row["letters"]) == int(row["tokens"]) == len(text)
        assert float(row["log_likelihood"]) == pytest.approx(total, abs=5e-3)
        bits = -total / math.log(2) / len(text)
        assert float(row["bits_per_base"]) == pytest.approx(bits, abs=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["each.parquet", "scores.tsv"]


def test_letters_count_for_what_is_asked(model: GPT, run: str, tmp_path: Path) -> None:
    path, table, each = tmp_path / "a.fa", tmp_path / "a.tsv", tmp_path / "a.npy"
    path.write_text(">a\nACGTacgtNNacGT\n")
    words = ["--lower-case-weight", "0.25", "--unknown-weight", "0", "--output", str(table)]
    assert main(["score", run, str(path), *words, "--per-position", str(each)]) == 0
    weights = np.array([1] * 4 + [0.25] * 4 + [0] * 2 + [0.25] * 2 + [1] * 2)
    expected = log_likelihoods(model, [END, *codes("ACGTACGTNNACGT")])
    np.testing.assert_allclose(np.load(each), expected, atol=2e-4)
    (row,) = rows(table)
    assert float(row["log_likelihood"]) == pytest.approx(weights @ expected, abs=1e-3)
    bits = -(weights @ expected) / math.log(2) / weights.sum()
    assert float(row["bits_per_base"]) == pytest.approx(bits, abs=1e-4)


def test_records_without_a_letter_that_counts_are_said(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.fa"
    path.write_text(">a\nACGT\n>b\nacgt\n>c\ngg\n")
    assert main(["score", run, str(path), "--lower-case-weight", "0"]) == 0
    out, error = capsys.readouterr()
    assert [line.split("\t")[3:] for line in out.splitlines()[2:]] == [["0.000000", "nan"]] * 2
    assert error == "longseq: warning: 2 records had no letter that counts: bits per base nan\n"


def test_prepared_data_give_the_scores_of_their_file(
    run: str, fasta: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", fasta, "--output", str(tmp_path / "data")]) == 0
    capsys.readouterr()
    tables = []
    for given in (fasta, str(tmp_path / "data")):
        assert main(["score", run, given, "--window", "64"]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]
    assert tables[0].count("\n") == 1 + len(RECORDS)


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        (">a\nACGT\n>b\nACJT\n", [], "record b: letter 3 is no nucleotide"),
        (">a\n>b\nACGT\n", [], "record a is empty: leave it out"),
        (
            ">a\n" + "A" * 97,
            [],
            "record a has 97 tokens and the network sees 96 at once: give --window 96 --stride 48,"
            " or --seq-length 97",
        ),
        (">a\nACGT\n", ["--window", "97"], "--window 97: the network sees 96 tokens at once"),
        (">a\nACGT\n", ["--window", "0"], "--window 0: give a number of tokens above 0, or leave"),
        (">a\nACGT\n", ["--window", "8", "--stride", "0"], "--stride 0: give a number of tokens"),
        (">a\nACGT\n", ["--stride", "5"], "--stride 5 needs --window"),
        (">a\nACGT\n", ["--window", "8", "--stride", "9"], "tokens between would be left out"),
        (">a\nACGT\n", ["--output", "x.txt"], "--output x.txt: end it in one of .tsv, .parquet"),
        (">a\nACGT\n", ["--weighted"], "--weighted takes the weights of prepared data"),
        (">a\nACGT\n", ["--lower-case-weight", "2"], "--lower-case-weight 2: give a number from 0"),
        (">a\nACGT\n", ["--tensor-model-parallel-size", "2"], "1 rank cannot be shared out"),
        ("", [], "is empty: leave it out"),
    ],
)
def test_a_mistake_is_one_line(
    run: str,
    text: str,
    words: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "a.fa"
    path.write_text(text)
    assert main(["score", run, str(path), *words]) == 2
    output, error = capsys.readouterr()
    assert output == ""  # no header either, in a file that it is sent to
    assert error.startswith("longseq: ")
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


def test_other_tokens_and_other_folders_are_refused(
    run: str, fasta: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = str(tmp_path / "words")
    path = tmp_path / "a.fa"
    path.write_text(">a\n" + "ACG" * 30 + "\n")
    assert main(["prepare", str(path), "--output", prefix, "--tokenizer", "kmer:3"]) == 0
    capsys.readouterr()
    for words, said in (
        ([run, prefix], "holds kmer:3 tokens (vocabulary 66) and"),
        ([str(tmp_path / "none"), fasta], "no such folder: name a run's folder"),
        ([str(tmp_path), fasta], "it holds no checkpoint"),
    ):
        assert main(["score", *words]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_a_run_that_saved_elsewhere_names_the_folder(
    model: GPT, fasta: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is asked, and does not go on from anything."""
    kept, run = tmp_path / "kept", tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    write_run(model, kept)
    told = {"settings": {"run": {"save": "kept/checkpoints"}}, "directory": str(tmp_path)}
    place = tmp_path / "kept/checkpoints"
    for save, said in (
        (
            "kept/checkpoints",
            f"it holds no checkpoint; its run saved in {place} (--save): name that",
        ),
        ("gone", f"saved in {tmp_path / 'gone'} (--save), which is not there any more"),
        ("run/checkpoints", "it holds no checkpoint"),
        ("", "it holds no checkpoint"),
    ):
        told["settings"] = {"run": {"save": save}}
        (run / "summary.json").write_text(json.dumps(told))
        for words in (["score", str(run), fasta], ["checkpoint", "inspect", str(run)]):
            assert main(words) == 2
            error = capsys.readouterr().err
            assert error.startswith(f"longseq: {run}: ")
            assert error.endswith(f"{said}\n")
            assert error.count("\n") == 1
    assert main(["score", str(place), fasta, "--window", "96"]) == 0


def test_a_folder_of_which_not_all_was_copied_is_to_be_copied_again(
    model: GPT, fasta: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training names the folder itself with --save: its copy names where it came from."""
    run, copy = write_run(model, tmp_path / "run"), tmp_path / "copy"
    told = {"settings": {"run": {"save": f"{run}/checkpoints"}}, "directory": "/"}
    (run / "summary.json").write_text(json.dumps(told))
    shutil.copytree(run, copy)
    (copy / "checkpoints/step-7/vocabulary.json").unlink()
    assert main(["score", str(copy), fasta]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(
        f"vocabulary.json is missing; its run saved in {run}/checkpoints: if this is a copy, not"
        " all of it came: copy it again"
    )


def test_words_are_read_as_prepared_data_have_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One with an N is [UNK], which may count for nothing; letters behind the last are left out."""
    run = str(write_run(make_model(LLAMA, "kmer:3"), tmp_path / "run", "kmer:3"))
    path, prefix = str(tmp_path / "a.fa"), str(tmp_path / "data")
    Path(path).write_text(">a\nACGACNACGNNGACTAC\n")
    assert main(["prepare", path, "--tokenizer", "kmer:3", "--output", prefix]) == 0
    capsys.readouterr()
    said = "longseq: warning: 2 words with another letter than ACGT: [UNK], as in prepared"
    found = []
    for given in (path, prefix):
        assert main(["score", run, given]) == 0
        out, error = capsys.readouterr()
        found.append(out)
        left_out = "2 letters were not scored: behind the last whole token of a record"
        assert (left_out in error) == (given == path)
        assert (said in error) == (given == path)
    assert found[0] == found[1]
    assert found[0].splitlines()[1].split("\t")[:3] == ["a", "15", "5"]
    each = tmp_path / "each.tsv"
    words = ["--unknown-weight", "0", "--per-position", str(each)]
    assert main(["score", run, path, *words]) == 0
    known = [float(row["log_likelihood"]) for row in rows(each) if row["token"] != "[UNK]"]
    assert len(known) == 3
    total = float(capsys.readouterr().out.splitlines()[1].split("\t")[3])
    assert total == pytest.approx(sum(known), abs=1e-4)
    for words in (["evaluate", run, path], ["embed", run, path, "--output", f"{tmp_path}/e.npy"]):
        assert main(words) == 0
        assert said in capsys.readouterr().err


def test_a_learned_table_of_positions_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(make_model(""), tmp_path / "run")
    path = tmp_path / "a.fa"
    path.write_text(">a\nACGT\n")
    assert main(["score", str(run), str(path), "--seq-length", "97"]) == 2
    assert "has 96 learned positions: give 96 or less" in capsys.readouterr().err
    assert main(["score", str(run), str(path), "--window", "97"]) == 2
    assert capsys.readouterr().err.endswith("sees 96 tokens at once: give 96 or less\n")
    path.write_text(">a\n" + "A" * 97 + "\n")
    assert main(["score", str(run), str(path)]) == 2
    assert capsys.readouterr().err.endswith("at once: give --window 96 --stride 48\n")


def test_names_that_come_twice_are_told(
    run: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By `score`, `embed` and `evaluate`, whose rows stay as they are; of other names nothing."""
    fasta = tmp_path / "dup.fa"
    fasta.write_text(">c\nACGT\n>d x\nACGTT\n>e\nACG\n>d y\nTTGCA\n>c\nA\n>d\nC\n")
    said = "3 records have the name of one before, the first is d: in what is written"
    made = tmp_path / "s.tsv"
    for words in (
        ["score", run, str(fasta), "--output", str(made)],
        ["embed", run, str(fasta), "--output", str(tmp_path / "s.npy")],
        ["evaluate", run, str(fasta)],
    ):
        assert main(words) == 0
        error = capfd.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    rows = made.read_text().splitlines()[1:]
    assert [row.split("\t")[0] for row in rows] == ["c", "d", "e", "d", "c", "d"]
    fasta.write_text(">c\nACGT\n>d\nACGTT\n")
    assert main(["score", run, str(fasta), "--output", str(made)]) == 0
    assert capfd.readouterr().err == ""


def test_names_are_held_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longseq.data.sources.names.MOST", 2)
    names = Names()
    for name in "abcacb":
        names.add(name)
    assert names.said().startswith("2 records have the name of one before, the first is a:")
