"""Tokenizers against tables written out by hand and a plain Python loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longseq.data.tokenizers.alphabet import letters, reverse_complement
from longseq.data.tokenizers.base import SequenceTokenizer
from longseq.data.tokenizers.letters import LETTERS, code_table
from longseq.data.tokenizers.registry import tokenizer_beside, tokenizer_from, write_tokenizer
from longseq.data.tokenizers.text import TextTokenizer
from longseq.errors import UserError


def sequence_tokenizer(specification: str) -> SequenceTokenizer:
    tokenizer = tokenizer_from(specification)
    assert isinstance(tokenizer, SequenceTokenizer)
    return tokenizer


def codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode().translate(code_table()), dtype=np.uint8)


def test_genslm_ids() -> None:
    """Spot values of the published vocabularies, both sizes."""
    large, small = sequence_tokenizer("codon"), sequence_tokenizer("codon:69")
    assert large.vocab_size == 71
    assert small.vocab_size == 69
    assert large.encode(codes("GGCATGTAGTGA")).tolist() == [7, 12, 70, 69]
    assert small.encode(codes("GGCATGTAGTGA")).tolist() == [5, 10, 68, 67]
    assert large.names()[:7] == ["[UNK]", "[CLS]", "[BOS]", "[EOS]", "[SEP]", "[PAD]", "[MASK]"]
    assert large.names()[large.end_of_document] == "[EOS]"
    assert small.names()[small.end_of_document] == "[SEP]"
    assert len(set(large.names())) == 71


@given(st.text("ACGTN", min_size=0, max_size=60), st.sampled_from(["codon", "kmer:1", "kmer:5"]))
def test_words_agree_with_a_loop(text: str, specification: str) -> None:
    tokenizer = sequence_tokenizer(specification)
    size = tokenizer.bases
    text = text[: len(text) - len(text) % size]
    names = tokenizer.names()
    words = [text[i : i + size] for i in range(0, len(text), size)]
    expected = [names.index(word) if "N" not in word else names.index("[UNK]") for word in words]
    tokens = tokenizer.encode(codes(text))
    assert tokens.tolist() == expected
    assert tokenizer.ambiguous(tokens).tolist() == ["N" in word for word in words]


@given(st.text(LETTERS, max_size=50))
def test_nucleotides_lose_nothing(text: str) -> None:
    tokenizer = sequence_tokenizer("nucleotide")
    assert tokenizer.decode(tokenizer.encode(codes(text))) == text


def test_reverse_complement_agrees_with_biopython() -> None:
    from Bio.Seq import Seq

    text = LETTERS * 3 + "ACG"
    assert letters(reverse_complement(codes(text))) == str(Seq(text).reverse_complement())


def test_letters_that_are_read_as_others() -> None:
    assert letters(codes("acgtuUxXn")) == "ACGTTTNNN"
    masked = np.frombuffer(b"ACgtN".translate(code_table(mask_lower_case=True)), dtype=np.uint8)
    assert letters(masked) == "ACNNN"
    assert set(codes("EFIJLOPQZ*?@1")) == {255}


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "nucleotides",
        "codon:70",
        "kmer:0",
        "kmer:13",
        "kmer:x",
        "kmer:" + "1" * 5000,
        "gpt2:one",
        "word",
        "byte:2",
        "huggingface:",
    ],
)
def test_unknown_specification(wrong: str) -> None:
    with pytest.raises(UserError, match="tokenizer"):
        tokenizer_from(wrong)


def test_bytes_round_trip() -> None:
    tokenizer = tokenizer_from("byte")
    (tokens,) = tokenizer.encode_all(["naïve".encode()])  # type: ignore[attr-defined]
    assert tokenizer.decode(tokens) == "naïve"
    assert tokenizer.vocab_size == 257


def test_word_size_fits_the_dtype() -> None:
    assert sequence_tokenizer("codon").dtype is np.uint8
    assert sequence_tokenizer("kmer:6").dtype is np.uint16
    assert sequence_tokenizer("kmer:8").dtype is np.int32


def test_tokenizer_kept_beside_a_model(tmp_path: Path) -> None:
    write_tokenizer(sequence_tokenizer("codon"), tmp_path)
    facts = json.loads((tmp_path / "vocabulary.json").read_text())
    assert facts["tokens"][12] == "ATG"
    assert (facts["vocab_size"], facts["end_of_document"]) == (71, 3)


@pytest.mark.parametrize(
    ("names", "said", "end"),
    [
        (["</s>", "<|endoftext|>"], "</s>", "</s>"),
        (["</s>", "<|endoftext|>"], {"content": "</s>"}, "</s>"),
        (["</s>", "<|endoftext|>"], "<none>", "<|endoftext|>"),
        (["</s>", "<|endoftext|>"], None, "<|endoftext|>"),
        (["<|end_of_text|>"], "<|end_of_text|>", "<|end_of_text|>"),
        (["<|end_of_text|>"], None, ""),
    ],
)
def test_the_end_is_what_the_file_beside_says(
    names: list[str], said: Any, end: str, tmp_path: Path
) -> None:
    """Also of what is kept beside a model and beside data, which is no more than it takes."""
    from tokenizers import Tokenizer, models

    known = {name: number for number, name in enumerate([*"ACGT", *names])}
    Tokenizer(models.BPE(known, [])).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": said, "more": 1}))
    if not end:
        with pytest.raises(UserError, match="or name a token that does as eos_token in tokenizer_"):
            tokenizer_from(f"huggingface:{tmp_path}/tokenizer.json")
        return
    tokenizer = tokenizer_from(f"huggingface:{tmp_path}/tokenizer.json")
    assert tokenizer.names()[tokenizer.end_of_document] == end
    (tmp_path / "model").mkdir()
    write_tokenizer(tokenizer, tmp_path / "model")
    again = tokenizer_from(f"huggingface:{tmp_path}/model/tokenizer.json")
    for name, content in tokenizer.files.items():
        (tmp_path / f"data.{name}").write_bytes(content)
    beside = tokenizer_beside(f"{tmp_path}/data", tokenizer.specification)
    assert again.definition() == beside.definition() == tokenizer.definition()
    kept = {} if end == "<|endoftext|>" else {"tokenizer_config.json"}
    assert tokenizer.files.keys() == {"tokenizer.json", *kept}


def test_what_is_beside_a_file_has_to_be_json(tmp_path: Path) -> None:
    model = {"type": "BPE", "vocab": {"A": 0, "<eod>": 1}, "merges": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer_config\.json is no JSON"):
        tokenizer_from(f"huggingface:{tmp_path}/tokenizer.json")


def test_a_file_does_not_say_how_long_a_document_is(tmp_path: Path) -> None:
    """What transformers writes after `tokenizer(texts, padding=True, truncation=True)`."""
    from tokenizers import Tokenizer, models

    inner = Tokenizer(models.BPE({name: n for n, name in enumerate([*"ACGT", "<eod>"])}, []))
    inner.enable_truncation(2)
    inner.enable_padding(pad_id=4, pad_token="<eod>")
    inner.save(str(tmp_path / "saved.json"))
    tokenizer = tokenizer_from(f"huggingface:{tmp_path}/saved.json")
    assert isinstance(tokenizer, TextTokenizer)
    found = tokenizer.encode_all([b"ACGTA", b"C"])
    assert [tokens.tolist() for tokens in found] == [[0, 1, 2, 3, 0], [1]]
