"""Our tokenizers as files of the library, loaded by transformers: the same tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longseq.data.tokenizers.base import SequenceTokenizer, Tokenizer
from longseq.data.tokenizers.letters import LAYOUT, LETTERS, code_table
from longseq.data.tokenizers.registry import tokenizer_from
from longseq.data.tokenizers.tagged import Tagged
from longseq.data.tokenizers.text import TextTokenizer
from longseq.errors import UserError
from longseq.huggingface.tokenizer_file import write_tokenizer_files

RECORDS = 1000


def records(with_blanks: bool) -> list[str]:
    """Records of 0 to 60 letters: mostly bases, some ambiguous, lower case, gaps, U and X."""
    draw = np.random.default_rng(11)
    letters = list("ACGT" * 12 + LETTERS + LETTERS.lower() + "UuXxacgt" + ("-. \n\t" * with_blanks))
    sizes = draw.integers(0, 61, RECORDS)
    return ["".join(draw.choice(letters, size)) for size in sizes]


def ours(tokenizer: Tokenizer, text: str) -> list[int]:
    """What `longseq prepare` makes of a record's letters."""
    if isinstance(tokenizer, TextTokenizer):
        return [int(token) for token in tokenizer.encode_all([text.encode()])[0]]
    assert isinstance(tokenizer, SequenceTokenizer)
    codes = np.frombuffer(text.encode().translate(code_table(), LAYOUT + b"-."), dtype=np.uint8)
    whole = codes[: len(codes) - len(codes) % tokenizer.bases]
    return [int(token) for token in tokenizer.encode(whole)]


@pytest.mark.parametrize("name", ["nucleotide", "codon", "codon:69", "kmer:1", "kmer:4", "byte"])
def test_a_thousand_records_have_the_same_tokens(name: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = tokenizer_from(name)
    write_tokenizer_files(tokenizer, tmp_path, 128)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    texts = records(with_blanks=name != "byte")
    if name == "byte":
        texts += ["".join(map(chr, range(0, 0x180))), "é☃"]
    found = theirs(texts)["input_ids"]
    for text, tokens in zip(texts, found, strict=True):
        assert tokens == ours(tokenizer, text), text
    assert theirs.eos_token_id == tokenizer.end_of_document
    assert len(theirs) == tokenizer.vocab_size
    few = theirs(["ACGACG", "ACGACGACGACG"], padding=True)
    padding = few["input_ids"][0][sum(few["attention_mask"][0]) :]
    assert padding
    kept = tokenizer.names().index("[PAD]") if "codon" in name else tokenizer.end_of_document
    assert set(padding) == {kept}
    assert "UNK" not in theirs.pad_token
    end = tokenizer.names()[tokenizer.end_of_document]
    assert theirs("ACG" * 4 + end)["input_ids"][-1] == tokenizer.end_of_document


TAGS = ["<organism=Escherichia coli>", "<organism=>", "<feature=CDS>"]


def text_file(folder: Path, *names: str) -> str:
    """A BPE that has only single letters, and an end."""
    from tokenizers import Tokenizer as Inner
    from tokenizers import models

    vocabulary = {name: n for n, name in enumerate([*names, "<eod>"])}
    Inner(models.BPE(vocabulary, [])).save(str(folder / "given.json"))
    return f"huggingface:{folder}/given.json"


@pytest.mark.parametrize("name", ["nucleotide", "codon", "codon:69", "kmer:4", "byte", "text"])
def test_tags_are_tokens_in_front_there_too(name: str, tmp_path: Path) -> None:
    """Of records with some, all and none; the tags' ids come behind all others."""
    from transformers import AutoTokenizer

    inner = tokenizer_from(text_file(tmp_path, *LETTERS) if name == "text" else name)
    tokenizer = Tagged(inner, TAGS)
    write_tokenizer_files(tokenizer, tmp_path, 128)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.convert_tokens_to_ids(TAGS) == [inner.vocab_size + n for n in range(3)]
    assert len(theirs) == tokenizer.vocab_size
    assert theirs.eos_token_id == tokenizer.end_of_document
    leads = [[], [0], [1], [0, 2], [1, 2]]
    for number, text in enumerate(records(with_blanks=name not in ("byte", "text"))):
        text = text.upper().replace("U", "T").replace("X", "N") if name == "text" else text
        lead = leads[number % 5]
        tags = "".join(TAGS[n] for n in lead)
        expected = [inner.vocab_size + n for n in lead] + ours(inner, text)
        assert theirs(tags + text)["input_ids"] == expected, text
        assert [*tokenizer.lead(f"{tags}{text}".encode())[0]] == expected[: len(lead)]
    tokens = theirs(TAGS[0] + TAGS[2] + "ACGTTTGACCTT")["input_ids"]
    assert theirs.decode(tokens) == TAGS[0] + TAGS[2] + "ACGTTTGACCTT"


def test_tags_that_would_have_other_ids_there_are_refused(tmp_path: Path) -> None:
    """Behind a gap, where the library counts on from how many tokens there are."""
    from tokenizers import Tokenizer as Inner
    from tokenizers import models

    Inner(models.BPE({"A": 0, "<eod>": 1, "C": 7}, [])).save(str(tmp_path / "gap.json"))
    tokenizer = Tagged(tokenizer_from(f"huggingface:{tmp_path}/gap.json"), TAGS)
    with pytest.raises(UserError, match=r"its ids leave gaps or .* checkpoint convert writes"):
        write_tokenizer_files(tokenizer, tmp_path, 128)


@pytest.mark.parametrize("name", ["nucleotide", "codon", "kmer:4"])
def test_tokens_read_back_as_the_letters(name: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    write_tokenizer_files(tokenizer_from(name), tmp_path, 128)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.decode(theirs("acgtACGTTTGA")["input_ids"]) == "ACGTACGTTTGA"


def test_a_letter_that_ours_refuses_is_an_error_there(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    write_tokenizer_files(tokenizer_from("nucleotide"), tmp_path, 128)
    with pytest.raises(Exception, match="UNK"):
        AutoTokenizer.from_pretrained(tmp_path)("ACGE")


def test_a_tokenizer_without_a_decoder_reads_back_there_too(tmp_path: Path) -> None:
    """As our own decodes it, without a blank between letters."""
    from tokenizers import Regex, models, pre_tokenizers
    from tokenizers import Tokenizer as Inner
    from transformers import AutoTokenizer

    inner = Inner(models.WordLevel({name: n for n, name in enumerate([*"ACGT", "<eod>"])}))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    inner.save(str(tmp_path / "letters.json"))
    tokenizer = tokenizer_from(f"huggingface:{tmp_path}/letters.json")
    write_tokenizer_files(tokenizer, tmp_path, 128)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    tokens = theirs("ACCTG")["input_ids"]
    assert tokens == ours(tokenizer, "ACCTG") == [0, 1, 1, 3, 2]
    assert theirs.decode([*tokens, 4]) == "ACCTG<eod>" == tokenizer.decode(np.array([*tokens, 4]))
