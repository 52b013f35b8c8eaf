"""How documents of other programs end: every one is looked at, by what reads every token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_helpers import make

from longseq.__main__ import run_verb
from longseq.data.datasets import check_data, open_datasets
from longseq.data.indexed.format import IndexedTokens
from longseq.data.indexed.writer import IndexedWriter
from longseq.errors import UserError

END = 15  # of nucleotides


def written(folder: Path, documents: list[list[int]]) -> str:
    writer = IndexedWriter(str(folder / "t"), np.uint16)
    for document in documents:
        writer.add(np.array(document, np.int64))
        writer.end_document()
    writer.finish()
    return str(folder / "t")


@pytest.mark.parametrize("block", [1 << 24, 5])
@pytest.mark.parametrize("lacking", [0, 1, 1999])
def test_one_document_without_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, lacking: int
) -> None:
    """It is named by what reads all, and by who wrote it is to be mended; some lie beside it that
    hold no token, and some whose end is not their last token.
    """
    monkeypatch.setattr("longseq.data.indexed.ends.BLOCK", block)
    random = np.random.default_rng(lacking)
    documents = [[*random.integers(0, 4, random.integers(1, 9)), END] for _ in range(2000)]
    documents[lacking] = [END, 2]
    documents[5] = documents[700] = []
    prefix = written(tmp_path, documents)
    said = (
        rf"t\.bin: document {int(not lacking)} ends with the end token \(15\), document {lacking}"
        r" does not \(with it: 1,997 of the 1,998 .*: write them again, each with it at its end or"
        r" none .*--append-eod"
    )
    for look in (
        lambda: run_verb(["data", "verify", prefix, "--tokenizer-type", "nucleotide"]),
        lambda: check_data(prefix, "nucleotide"),
    ):
        with pytest.raises(UserError, match=said if lacking not in (0, 1999) else "write them"):
            look()


def test_ends_inside_documents_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Resets of Megatron go by them; also where no document ends with one."""
    documents = [[1, END, 2, END, 3, END], [END], [1, 2, END]]
    for name, tail, inner in (("closed", [], 2), ("open", [3], 5)):
        (tmp_path / name).mkdir()
        prefix = written(tmp_path / name, [document + tail for document in documents])
        for verb in ("verify", "inspect"):
            assert run_verb(["data", verb, prefix, "--tokenizer-type", "nucleotide"]) == 0
            printed = capsys.readouterr().out
            assert (
                f"  problem: {inner} end tokens inside documents: --reset-position-ids" in printed
            )
            assert ("samples add it" in printed) == (name == "open")


def test_documents_of_no_tokens_have_no_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two samples of up to 4 labels hold 1 and 3."""
    prefix = written(tmp_path, [[], [1, END], [], [], [1, 2, 3, END]])
    words = ["--tokenizer-type", "nucleotide", "--seq-length", "4"]
    assert run_verb(["data", "inspect", prefix, *words]) == 0
    assert "one document each, 2 samples, 50.0% full" in capsys.readouterr().out


def test_a_text_that_holds_the_end_token_is_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({n: i for i, n in enumerate("abc?")}, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.add_special_tokens(["</s>"])
    inner.save(str(tmp_path / "t.json"))
    prefix, _ = make(
        tmp_path, "ab</s>c\na\n", name="x.txt", tokenizer=f"huggingface:{tmp_path}/t.json"
    )
    assert IndexedTokens(prefix).document(0).tolist() == [0, 1, 4, 2, 4]
    assert run_verb(["data", "verify", prefix]) == 0
    assert "problem: 1 end token inside documents" in capsys.readouterr().out
    (dataset,) = open_datasets(prefix)
    assert dataset.closed
