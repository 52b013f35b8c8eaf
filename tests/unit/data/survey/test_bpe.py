"""A vocabulary of DNA words: the library's own on the same letters, the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_helpers import LAMBDA, records_of, texts

from longseq.data.indexed.format import IndexedTokens
from longseq.data.indexed.manifest import read_manifest
from longseq.data.prepare.job import prepare, quiet
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.settings import Settings
from longseq.data.sources.inputs import expand
from longseq.data.survey.bpe import bpe_size
from longseq.data.survey.sample import WORD, Sample
from longseq.errors import UserError


def trained(folder: Path, source: Path, size: int = 300, chunk: int = 0) -> str:
    prefix = str(folder / "out")
    settings = Settings(Recipe(), train_tokenizer=f"bpe:{size}", chunk_bytes=chunk)
    prepare(expand([str(source)]), prefix, settings, True, quiet)
    return prefix


def test_words_are_the_librarys_own(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, trainers

    prefix = trained(tmp_path, LAMBDA)
    ((_, sequence),) = records_of(LAMBDA.read_text())
    theirs = Tokenizer(models.BPE())
    words = [sequence[i : i + WORD] for i in range(0, len(sequence), WORD)]
    theirs.train_from_iterator(
        words, trainers.BpeTrainer(vocab_size=300, min_frequency=2, special_tokens=["<eod>"],
        initial_alphabet=list("ACGTNRYSWKMBDHV"), show_progress=False),
    )  # fmt: skip
    ours = Tokenizer.from_file(f"{prefix}.tokenizer.json")
    assert ours.get_vocab() == theirs.get_vocab()
    assert len(ours.get_vocab()) == 300
    tokens = IndexedTokens(prefix).document(0)
    assert tokens.tolist() == [*theirs.encode(sequence).ids, theirs.token_to_id("<eod>")]
    assert texts(prefix) == [sequence]
    manifest = read_manifest(prefix)
    assert manifest is not None
    assert manifest.options["tokenizer"] == "bpe:300"


def test_the_same_each_time_and_for_other_data(tmp_path: Path) -> None:
    """Whatever is not A, C, G or T stays a letter; no letter is unknown."""
    content = LAMBDA.read_text().replace("GGGCGG", "NNNNNN").replace("CCTTC", "RRYNN")
    (tmp_path / "x.fa").write_text(content)
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        found.append(trained(tmp_path / name, tmp_path / "x.fa"))
    for ending in ("bin", "tokenizer.json"):
        one, two = (Path(f"{prefix}.{ending}").read_bytes() for prefix in found)
        assert one == two
    assert sorted(p.name for p in (tmp_path / "a").iterdir() if "unfinished" in p.name) == []
    ((_, sequence),) = records_of(content)
    assert texts(found[0]) == [sequence.upper()]
    vocabulary = Path(f"{found[0]}.tokenizer.json").read_text()
    assert "NN" not in vocabulary
    (tmp_path / "c").mkdir()
    again = str(tmp_path / "c" / "out")
    recipe = Recipe(f"huggingface:{found[0]}.tokenizer.json")
    prepare(expand([str(tmp_path / "x.fa")]), again, Settings(recipe), False, quiet)
    assert Path(f"{again}.bin").read_bytes() == Path(f"{found[0]}.bin").read_bytes()


def test_a_vocabulary_that_the_data_do_not_give(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_text(">a\nACGTACGTACGTACGT\n")
    with pytest.raises(UserError, match=r"bpe:400: 16 letters .* no more than \d+ tokens: use bpe"):
        trained(tmp_path, tmp_path / "x.fa", 400)
    assert [path.name for path in tmp_path.iterdir()] == ["x.fa"]


@pytest.mark.parametrize("text", ["bpe:", "bpe:16", "bpe:" + "9" * 5000, "words:99"])
def test_a_size_that_no_vocabulary_has(text: str) -> None:
    with pytest.raises(UserError, match="give bpe:N, N tokens from 17 to 1,048,576"):
        bpe_size(text)


def test_a_sample_is_bounded_and_even() -> None:
    """Each stretch of the letters is as likely as any other."""
    rng = np.random.default_rng(0)
    text = rng.choice(np.frombuffer(b"ACGT", np.uint8), 3_000 * WORD).tobytes()
    sample = Sample(1000)
    for start in range(0, len(text), 50 * WORD):
        sample.add(text[start : start + 50 * WORD])
    assert len(sample.words) == 1000
    assert sample.seen == len(text)
    places = np.array([text.index(word.encode()) // WORD for word in sample.words])
    assert len(set(places.tolist())) == 1000
    assert np.histogram(places, 3, (0, 3000))[0] == pytest.approx([333, 333, 333], abs=60)


def test_letters_are_read_alike_where_the_file_is_loaded(tmp_path: Path) -> None:
    """By the library, after an export, and by us: RNA and lower case too. Of texts they are not."""
    from longseq.data.tokenizers.registry import tokenizer_from
    from longseq.data.tokenizers.text import Library
    from longseq.huggingface.tokenizer_file import as_library

    file = f"{trained(tmp_path, LAMBDA)}.tokenizer.json"
    ours = tokenizer_from(f"huggingface:{file}")
    assert isinstance(ours, Library)
    assert ours.nucleotides
    exported = as_library(ours)
    exported.save(str(tmp_path / "exported.json"))
    again = tokenizer_from(f"huggingface:{tmp_path}/exported.json")
    assert again.names() == ours.names()
    assert isinstance(again, Library)
    expected = exported.encode("ACGTACGTNATGACCAGTTT").ids
    assert len(expected) < 15
    for text in ("acgtACGTxatgaccagttt", "acgu\nACGU-NAUG ACCAGUUU\n"):
        assert exported.encode(text).ids == expected
        for texts_given in ([text], ["ACGTACGTNATGACCAGTTT"], [text, "ACGTACGTNATGACCAGTTT"]):
            found = again.encode_all([one.encode() for one in texts_given])
            assert [tokens.tolist() for tokens in found] == [expected] * len(texts_given)
    ((_, sequence),) = records_of(LAMBDA.read_text())
    (tmp_path / "x.txt").write_text(f"{sequence}\n")
    (tmp_path / "b").mkdir()
    of_text = trained(tmp_path / "b", tmp_path / "x.txt")
    other = as_library(tokenizer_from(f"huggingface:{of_text}.tokenizer.json"))
    assert other.encode("acgtTTTT").ids == other.encode("TTTT").ids


def test_a_vocabulary_of_rna(tmp_path: Path) -> None:
    """U is T in the sample and in the data."""
    content = LAMBDA.read_text()
    header, _, body = content.partition("\n")
    (tmp_path / "r").mkdir()
    (tmp_path / "x.fa").write_text(f"{header}\n{body.replace('T', 'u')}")
    rna, dna = trained(tmp_path / "r", tmp_path / "x.fa"), trained(tmp_path, LAMBDA)
    for ending in ("bin", "tokenizer.json"):
        assert Path(f"{rna}.{ending}").read_bytes() == Path(f"{dna}.{ending}").read_bytes()
