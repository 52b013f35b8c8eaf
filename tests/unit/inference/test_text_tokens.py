"""Networks of text tokenizers: what a letter is, where a token lies, how FASTA is read."""

from __future__ import annotations

import csv
import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest

from longseq.__main__ import main
from longseq.data.tokenizers.registry import tokenizer_from
from tests.unit.inference.trained_run import LLAMA, make_model, write_run

DNA = "".join(np.random.default_rng(5).choice(list("ACGT"), 3000, p=[0.4, 0.2, 0.1, 0.3]))
SEQUENCE = DNA[:140] + "N" + DNA[500:530]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary of DNA words, and runs of it and of bytes."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "all.fa").write_text(f">all\n{DNA}\n")
    train = ["--train-tokenizer", "bpe:40", "--output", str(folder / "all")]
    assert main(["prepare", str(folder / "all.fa"), *train]) == 0
    for name, tokenizer in (
        ("words", f"huggingface:{folder}/all.tokenizer.json"),
        ("bytes", "byte"),
    ):
        write_run(make_model(LLAMA, tokenizer, 192), folder / name, tokenizer)
    (folder / "one.fa").write_text(f">one\n{SEQUENCE}\n")
    return folder


def spelt(folder: Path, sequence: str) -> list[str]:
    """The tokens of a sequence, by the library alone."""
    from tokenizers import Tokenizer

    inner = Tokenizer.from_file(f"{folder}/all.tokenizer.json")
    tokens: list[str] = inner.encode(sequence).tokens
    return tokens


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def score(run: Path, given: Path | str, folder: Path, *words: str) -> list[dict[str, str]]:
    out = folder / "score.tsv"
    assert main(["score", str(run), str(given), "--output", str(out), *words]) == 0
    return rows(out)


def test_a_word_has_as_many_letters_as_it_is_spelt_with(made: Path, tmp_path: Path) -> None:
    """Of prepared data as of their file, in scores and in evaluations; zlib gets the same ones."""
    words = [
        "--tokenizer",
        f"huggingface:{made}/all.tokenizer.json",
        "--output",
        f"{tmp_path}/data",
    ]
    assert main(["prepare", str(made / "one.fa"), *words]) == 0
    found = score(made / "words", made / "one.fa", tmp_path)
    assert found == score(made / "words", f"{tmp_path}/data", tmp_path)
    assert (found[0]["letters"], found[0]["tokens"]) == ("171", str(len(spelt(made, SEQUENCE))))
    assert int(found[0]["tokens"]) < 120
    run = write_run(make_model(LLAMA, words[1], 192), tmp_path / "run", words[1])
    (run / "held_out.tsv").write_text(
        f"part\tdata\tdocument\ttokens\trecord\tfile\nvalid\t{tmp_path}/data\t0\tall\tone\tone.fa\n"
    )
    out = tmp_path / "e.json"
    assert main(["evaluate", str(run), "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["letters"] == 171
    bits = figures["bits_per_letter"]
    assert bits["network"] == pytest.approx(float(found[0]["bits_per_base"]), rel=1e-4)
    assert bits["network"] == pytest.approx(
        -float(found[0]["log_likelihood"]) / math.log(2) / 171, rel=1e-4
    )
    assert bits["zlib"] == pytest.approx(8 * len(zlib.compress(SEQUENCE.encode(), 9)) / 171)
    (record,) = figures["by_record"]
    assert record["bits_per_letter"] == pytest.approx(bits["network"])


def test_letters_of_text_are_bytes(tmp_path: Path) -> None:
    """Also where a token is a part of a character, or the library spells blanks by itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    text = "naïve ☃ and so on"
    plain = tokenizer_from("byte")
    (tokens,) = plain.encode_all([text.encode()])  # type: ignore[attr-defined]
    assert plain.letters(tokens) == len(text.encode()) == 20
    assert plain.letters(tokens[:3]) == 3  # half of the ï
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    parts = Tokenizer(models.BPE({name: n for n, name in enumerate([*letters, "</s>"])}, []))
    parts.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    parts.decoder = decoders.ByteLevel()
    bare = Tokenizer(models.BPE({"A": 0, "C": 1, "AC": 2, "</s>": 3}, [("A", "C")]))
    words = Tokenizer(models.WordPiece({"on": 0, "##es": 1, "[UNK]": 2, "</s>": 3}))
    words.decoder = decoders.WordPiece()
    for inner, given, sizes in (
        (parts, text, [1] * 20),
        (bare, "AACC", [1, 2, 1]),
        (words, "ones", [3, 2]),  # with the blank before a word
    ):
        inner.save(str(tmp_path / "t.json"))
        tokenizer = tokenizer_from(f"huggingface:{tmp_path}/t.json")
        (tokens,) = tokenizer.encode_all([given.encode()])  # type: ignore[attr-defined]
        assert tokenizer.sizes(tokens).tolist() == sizes
        assert tokenizer.decode(tokens) == given
