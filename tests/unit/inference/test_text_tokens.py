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
from longseq.data.indexed.format import IndexedTokens
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


FILES = {
    "plain.fa": ">x\nACGTNACGTACG\n",
    "crlf.fa": ">x\r\nACGTN\r\nACGTACG\r\n",
    "low.fa": ">x\nacgtnACG-TACG\n",
}


@pytest.mark.parametrize("run", ["words", "bytes"])
def test_fasta_is_read_as_prepare_reads_it(run: str, made: Path, tmp_path: Path) -> None:
    """Line ends, gaps and lower case are none of its letters, in every verb."""
    tokenizer = "byte" if run == "bytes" else f"huggingface:{made}/all.tokenizer.json"
    expected = list(b"ACGTNACGTACG")
    if run == "words":
        names = tokenizer_from(tokenizer).names()
        expected = [names.index(word) for word in spelt(made, "ACGTNACGTACG")]
    found, states, texts = [], [], []
    for name, content in FILES.items():
        path, prefix = tmp_path / name, str(tmp_path / name[:-3])
        path.write_text(content, newline="")
        assert main(["prepare", str(path), "--tokenizer", tokenizer, "--output", prefix]) == 0
        assert IndexedTokens(prefix).document(0)[:-1].tolist() == expected
        found += [score(made / run, given, tmp_path) for given in (path, prefix)]
        out, made_up = tmp_path / "e.npy", tmp_path / "g.fa"
        assert main(["embed", str(made / run), str(path), "--output", str(out)]) == 0
        states.append(np.load(out))
        words = ["--max-new-tokens", "3", "--with-prompt", "--output", str(made_up)]
        assert main(["generate", str(made / run), str(path), *words]) == 0
        texts.append(made_up.read_text())
    assert all(one == found[0] for one in found)
    assert found[0][0]["letters"] == "12"
    assert all((one == states[0]).all() for one in states)
    assert set(texts) == {texts[0]}
    assert "\nACGTNACGTACG" in texts[0]


def test_text_stays_as_it_is(made: Path, tmp_path: Path) -> None:
    """A line's blanks and lower case too: as `prepare` keeps them."""
    (tmp_path / "x.txt").write_text("one Two \n")
    prefix = str(tmp_path / "x")
    assert main(["prepare", f"{prefix}.txt", "--tokenizer", "byte", "--output", prefix]) == 0
    found = [score(made / "bytes", given, tmp_path) for given in (f"{prefix}.txt", prefix)]
    assert found[0][0]["letters"] == found[1][0]["letters"] == "8"
    assert found[0][0]["log_likelihood"] == found[1][0]["log_likelihood"]


@pytest.mark.parametrize(
    ("run", "content", "words", "said"),
    [
        ("words", ">x\nACJT\n", [], "record x: letter 3 is no nucleotide: mend the record"),
        ("bytes", ">x\nAC\u00e9T\n", [], "record x: letter 3 is none of a sequence: mend"),
        ("bytes", ">x\nACT\n", ["--unknown-weight", "0"], "need a tokenizer of sequences, and"),
    ],
)
def test_a_mistake_is_one_line(
    run: str, content: str, words: list[str], said: str, made: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "x.fa").write_text(content, encoding="utf-8")
    assert main(["score", str(made / run), str(tmp_path / "x.fa"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_position_is_that_of_a_tokens_first_letter(made: Path, tmp_path: Path) -> None:
    """Also where a record has as many letters as its tokens would have, were they of one size."""
    sequence = SEQUENCE
    while len(sequence) % len(spelt(made, sequence)):
        sequence = sequence[:-1]
    assert len(sequence) > 2
    (tmp_path / "two.fa").write_text(f">one\n{SEQUENCE}\n>even\n{sequence}\n")
    each = tmp_path / "each.tsv"
    score(made / "words", tmp_path / "two.fa", tmp_path, "--per-position", str(each))
    expected = []
    for text in (SEQUENCE, sequence):
        at = 1
        for word in spelt(made, text):
            expected.append((str(at), word))
            at += len(word)
    assert [(row["position"], row["token"]) for row in rows(each)] == expected
