"""States behind a layer against transformers' with the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from longseq.__main__ import main
from longseq.model.gpt import GPT
from tests.unit.inference.reference import llama
from tests.unit.inference.trained_run import LLAMA, make_model, write_run

RECORDS = {"one": "ACGTTGCATTACGTACCATG", "two": "GATTACA" * 9, "three": "C"}


@pytest.fixture(scope="module")
def model() -> GPT:
    return make_model(LLAMA)


@pytest.fixture(scope="module")
def run(model: GPT, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_run(model, tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("fasta") / "a.fa"
    path.write_text("".join(f">{name} more\n{text}\n" for name, text in RECORDS.items()))
    return str(path)


@torch.no_grad()
def states(model: GPT, text: str, layer: int) -> torch.Tensor:
    """[n, h]: transformers gives the embeddings, each layer's output, the last one normed."""
    tokens = torch.tensor([["ACGT".index(letter) for letter in text]])
    found: torch.Tensor = llama(model)(tokens, output_hidden_states=True).hidden_states[layer][0]
    return found


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_means_are_those_of_transformers(
    layer: int, model: GPT, run: str, fasta: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.npy"
    words = [] if layer < 0 else ["--layer", str(layer)]
    assert main(["embed", run, fasta, "--output", str(out), *words]) == 0
    expected = torch.stack([states(model, text, layer).mean(0) for text in RECORDS.values()])
    np.testing.assert_allclose(np.load(out), expected.numpy(), atol=2e-4)
    table = (tmp_path / "out.records.tsv").read_text()
    assert table == "record\tfirst_row\trows\none\t0\t1\ntwo\t1\t1\nthree\t2\t1\n"


def test_a_row_a_token(model: GPT, run: str, fasta: str, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    assert main(["embed", run, fasta, "--per-token", "--layer", "1", "--output", str(out)]) == 0
    table = pq.read_table(out).to_pydict()
    names = [name for name, text in RECORDS.items() for _ in text]
    assert table["record"] == names
    assert table["row"] == [n for text in RECORDS.values() for n in range(len(text))]
    expected = torch.cat([states(model, text, 1) for text in RECORDS.values()])
    np.testing.assert_allclose(np.array(table["state"]), expected.numpy(), atol=2e-4)


def by_windows(model: GPT, text: str, layer: int, size: int, stride: int) -> torch.Tensor:
    """Each token from the first window that holds it, each window by itself."""
    count, start, found = len(text), 0, torch.zeros(0, model.net.hidden_size)
    while len(found) < count:
        start = min(start, max(0, count - size))
        window = states(model, text[start : start + size], layer)
        found = torch.cat([found, window[len(found) - start :]])
        start += stride
    return found


@pytest.mark.parametrize("stride", [17, 40])
def test_longer_records_are_cut_as_scores_are(
    stride: int, model: GPT, run: str, fasta: str, tmp_path: Path
) -> None:
    """One record in three windows or two, the others in one; windows of several in a batch."""
    words = ["--window", "40", "--stride", str(stride), "--micro-batch-size", "4"]
    each, means = tmp_path / "each.parquet", tmp_path / "means.npy"
    expected = [by_windows(model, text, 1, 40, stride) for text in RECORDS.values()]
    common = ["embed", run, fasta, "--layer", "1", *words, "--output"]
    assert main([*common, str(each), "--per-token"]) == 0
    table = pq.read_table(each).to_pydict()
    np.testing.assert_allclose(np.array(table["state"]), torch.cat(expected).numpy(), atol=2e-4)
    assert table["record"] == [name for name, text in RECORDS.items() for _ in text]
    assert table["row"] == [n for text in RECORDS.values() for n in range(len(text))]
    assert main([*common, str(means)]) == 0
    mean = torch.stack([rows.mean(0) for rows in expected])
    np.testing.assert_allclose(np.load(means), mean.numpy(), atol=2e-4)
    assert main([*common, str(tmp_path / "rows.npy"), "--per-token"]) == 0
    said = (tmp_path / "rows.records.tsv").read_text()
    assert said == "record\tfirst_row\trows\none\t0\t20\ntwo\t20\t63\nthree\t83\t1\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--layer", "3"], "has layers 1 to 2: give one of them, 0 for the embeddings, or leave"),
        (["--layer", "-1"], "has layers 1 to 2: give one of them, 0 for"),
        (["--output", "x.tsv"], "--output x.tsv: end it in one of .npy, .parquet"),
        (["--seq-length", "40"], "the network sees 40 at once: give --window 40 --stride 20"),
        (["--stride", "4"], "--stride 4 needs --window"),
        (["--window", "97"], "--window 97: the network sees 96 tokens at once"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str],
    said: str,
    run: str,
    fasta: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["embed", run, fasta, "--output", str(tmp_path / "x.npy"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
