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
from longseq.errors import UserError
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


def letter_by_letter(folder: Path, *names: str, **given: str) -> str:
    """A tokenizer of single letters as its usual recipe makes it: words, and no decoder."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({name: n for n, name in enumerate(names)}, **given))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    inner.save(str(folder / "letters.json"))
    return f"huggingface:{folder}/letters.json"


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The bases and an end, and a run of them."""
    folder = tmp_path_factory.mktemp("five")
    name = letter_by_letter(folder, *"ACGT", "<eod>")
    return name, str(write_run(make_model(LLAMA, name, 192), folder / "run", name))


def test_letters_without_a_decoder_are_one_each(five: tuple[str, str], tmp_path: Path) -> None:
    """No blank stands between them, which the library would write."""
    name, run = five
    tokenizer = tokenizer_from(name)
    (tokens,) = tokenizer.encode_all([b"ACGT"])  # type: ignore[attr-defined]
    assert (tokenizer.decode(tokens), tokenizer.letters(tokens)) == ("ACGT", 4)
    (tmp_path / "x.fa").write_text(f">x\n{DNA[:140]}\n")
    each, made_up = tmp_path / "each.tsv", tmp_path / "g.fa"
    (found,) = score(Path(run), tmp_path / "x.fa", tmp_path, "--per-position", str(each))
    assert (found["letters"], found["tokens"]) == ("140", "140")
    nats = -sum(float(row["log_likelihood"]) for row in rows(each))
    assert float(found["bits_per_base"]) == pytest.approx(nats / math.log(2) / 140, rel=1e-4)
    assert [row["position"] for row in rows(each)] == [str(n) for n in range(1, 141)]
    words = ["--prompt", "ACG", "--max-new-tokens", "5", "--top-k", "1", "--with-prompt"]
    assert main(["generate", run, *words, "--output", str(made_up)]) == 0
    assert made_up.read_text().splitlines()[1].startswith("ACG")
    assert " " not in made_up.read_text().splitlines()[1]


def test_words_between_blanks_keep_them(tmp_path: Path) -> None:
    """Of a vocabulary without a decoder whose words stand alone."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({"one": 0, "two": 1, "</s>": 2}))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.save(str(tmp_path / "t.json"))
    tokenizer = tokenizer_from(f"huggingface:{tmp_path}/t.json")
    (tokens,) = tokenizer.encode_all([b"one two"])  # type: ignore[attr-defined]
    assert tokenizer.decode(tokens) == "one two"


def test_a_file_whose_tokens_do_not_read_back_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.WordPiece({"on": 0, "##on": 1, "[UNK]": 2, "</s>": 3}))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.save(str(tmp_path / "t.json"))
    with pytest.raises(UserError, match="no decoder, and the tokens of onon read on##on: give it"):
        tokenizer_from(f"huggingface:{tmp_path}/t.json")


def test_a_letter_that_a_vocabulary_without_unknown_lacks_is_named(
    five: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The library raises what names nothing."""
    name, run = five
    path, prefix = str(tmp_path / "n.fa"), str(tmp_path / "n")
    Path(path).write_text(">n0\nACGT\n>n1\nACGTNNACGT\n")
    prepare = ["prepare", path, "--output", prefix, "--tokenizer", name]
    for words, said in (
        (prepare, f"{path}: record n1: the tokenizer has no token for 'NNACGT', nor for 14.3% of"),
        (["score", run, path], f"{path}: record n1: 'NNACGT' has no token in huggingface: mend"),
        (["generate", run, "--prompt", "ACN"], "'N' has no token in huggingface: mend the"),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert main([*prepare, "--allow-unknown", "0.2"]) == 0
    assert IndexedTokens(prefix).document(1).tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4]


def test_what_the_library_cannot_encode_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tokenizers import Tokenizer, models

    pieces = [(letter, -1.0) for letter in (*"ACGT", "</s>")]
    Tokenizer(models.Unigram(pieces)).save(str(tmp_path / "pieces.json"))
    (tmp_path / "n.fa").write_text(">n\nACGTN\n")
    name = f"huggingface:{tmp_path}/pieces.json"
    words = [str(tmp_path / "n.fa"), "--output", str(tmp_path / "n"), "--tokenizer", name]
    assert main(["prepare", *words]) == 2
    error = capsys.readouterr().err
    assert "huggingface cannot encode this: " in error
    assert error.endswith("its file may need an unknown token\n")
    assert error.count("\n") == 1


@pytest.mark.parametrize("width", [1, 3])
def test_unknown_words_are_counted_with_a_token_as_without(width: int, tmp_path: Path) -> None:
    """Of letters and of longer words, beside an added token, whose id stays."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    text, found = "AAATTT<s>AAAGTTTTTG", []
    for unknown in ([], ["<unk>"]):
        names = ["A" * width, "T" * width, "</s>", *unknown]
        inner = Tokenizer(models.WordLevel({name: n for n, name in enumerate(names)}))
        inner.pre_tokenizer = pre_tokenizers.Split(Regex(f".{{{width}}}"), "isolated")
        inner.add_special_tokens(["<s>"])
        inner.save(str(tmp_path / "t.json"))
        tokenizer = tokenizer_from(f"huggingface:{tmp_path}/t.json")
        (tokens,) = tokenizer.encode_all([text.encode()])  # type: ignore[attr-defined]
        assert tokens.tolist().count(len(names)) == 1
        found.append(tokenizer.unknown(text.encode(), tokens))  # type: ignore[attr-defined]
        (known,) = tokenizer.encode_all([b"AAATTT"])  # type: ignore[attr-defined]
        assert tokenizer.unknown(b"AAATTT", known) == (0, 0)  # type: ignore[attr-defined]
    assert found[0] == found[1] == {1: (2, 12), 3: (4, 12)}[width]


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
        (
            "words",
            ">x\nACJT\n",
            [],
            "record x: letter 3 is no nucleotide, but 'J': mend the record",
        ),
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
