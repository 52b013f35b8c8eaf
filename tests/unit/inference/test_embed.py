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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--layer", "3"], "--layer 3:"),
        (["--output", "x.tsv"], "--output x.tsv: end it in one of .npy, .parquet"),
        (["--seq-length", "40"], "record two has 63 tokens and the network sees 40 at once"),
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
