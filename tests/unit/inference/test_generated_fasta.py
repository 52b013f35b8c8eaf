"""What is generated is FASTA that is read again, whatever the network's tokens are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from longseq.__main__ import main
from longseq.data.tokenizers.nucleotides import Nucleotides
from longseq.data.tokenizers.registry import tokenizer_from
from longseq.data.tokenizers.tagged import Tagged
from longseq.reports.format import counted
from tests.unit.inference.trained_run import LLAMA, make_model, write_run

TAGS = [f"<organism={'E. coli ' * 9}>", "<feature=CDS>"]
Generate = Callable[..., dict[str, str]]


@pytest.fixture
def generate(tmp_path: Path) -> Generate:
    """Records by name that a network of these tokens makes; each has as many as it may."""

    def generated(tokenizer: str | Tagged, *words: str) -> dict[str, str]:
        run, out = tmp_path / "run", tmp_path / "made.fa"
        if not run.exists():
            write_run(make_model(LLAMA, tokenizer), run, tokenizer)
        fixed = ["--temperature", "9", "--max-new-tokens", "60", "--output", str(out)]
        assert main(["generate", str(run), *fixed, *words]) == 0
        text = out.read_bytes().decode("ascii")
        assert main(["score", str(run), str(out), "--output", str(tmp_path / "s.tsv")]) == 0
        rows = [row.split("\t") for row in (tmp_path / "s.tsv").read_text().splitlines()[1:]]
        records = [record.partition("\n") for record in ("\n" + text).split("\n>")[1:]]
        assert [head.split()[0] for head, _, _ in records] == [row[0] for row in rows]
        return {row[0]: record[2] for row, record in zip(rows, records, strict=True)}

    return generated


@pytest.mark.parametrize(("specification", "size"), [("codon", 3), ("kmer:2", 2), ("byte", 1)])
def test_only_letters_are_drawn(specification: str, size: int, generate: Generate) -> None:
    found = generate(specification, "--samples", "20", "--no-end")
    for text in found.values():
        letters = text.replace("\n", "")
        assert letters.isprintable()
        assert len(letters) == 60 * size
        assert ">" not in letters
        if specification != "byte":
            assert set(letters) <= set("ACGT")


def test_a_stop_that_is_no_letter_may_come_and_is_not_written(generate: Generate) -> None:
    found = generate("codon", "--samples", "20", "--no-end", "--stop", "[PAD]", "--prompt", "ATG",
                     "--with-prompt")  # fmt: skip
    assert min(map(len, found.values())) < 183
    assert all(set(text) <= set("ACGT\n") for text in found.values())


def test_what_a_prompt_has_and_fasta_has_not(
    generate: Generate, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = generate("byte", "--prompt", "a\n>b\u00e9", "--with-prompt").values()
    assert text.startswith("a??b?")
    assert "cannot hold 3 characters of prompts: each is written ?\n" in capsys.readouterr().err


def test_tags_of_a_prompt_are_read_again(generate: Generate) -> None:
    """However long; none comes behind it."""
    words = ["--prompt", "".join(TAGS) + "ACGT", "--with-prompt", "--samples", "9", "--no-end"]
    for text in generate(Tagged(Nucleotides(), TAGS), *words).values():
        first, letters = text.split("\n", 1)
        assert first == "".join(TAGS)
        assert letters.startswith("ACGT")
        assert "<" not in letters


def test_a_sequence_that_ends_at_once_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(make_model(LLAMA), tmp_path / "run")
    words = ["--temperature", "9", "--samples", "60", "--max-new-tokens", "2"]
    assert main(["generate", str(run), *words]) == 0
    out, error = capsys.readouterr()
    empty = sum(" tokens=0 " in line for line in out.splitlines())
    assert empty
    assert f"{counted(empty, 'sequence')} came out empty, which score refuses" in error


def test_no_two_records_have_one_name(
    generate: Generate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor one that another prompt has."""
    names = ["p1 some", "p1 again", "p1-2", "p1", "prompt-1"]
    (tmp_path / "p.fa").write_text("".join(f">{name}\nACG\n" for name in names))
    words = [f"{tmp_path}/p.fa", "--prompt", "ACG", "--samples", "2", "--no-end"]
    found = ["p1", "p1-3", "p1-2", "p1-4", "prompt-1", "prompt-1-2"]
    expected = [f"{name}/{sample}" for name in found for sample in (1, 2)]
    assert list(generate("nucleotide", *words)) == expected
    assert "3 prompts are named like one before: -2, -3" in capsys.readouterr().err


BYTES = {
    "A": 0,
    "C": 1,
    "\u0120\u0120AC\u0120": 2,
    "\u010a": 3,
    "\u00e9": 4,
    ">": 5,
    "</s>": 6,
    "[X]": 7,
}
PIECES = {"AC": 0, "##GT": 1, "[UNK]": 2, "[SEP]": 3, "G>T": 4, "\u00e9": 5}
LETTERS = {**dict(zip("ACGT", range(4), strict=True)), "[UNK]": 4, "</s>": 5, "AN": 6, "A-": 7}


@pytest.mark.parametrize(
    ("inner", "decoder", "special", "expected"),
    [
        (models.BPE(BYTES, []), decoders.ByteLevel(), "[X]", [3, 4, 5, 6, 7]),
        (models.WordPiece(PIECES), decoders.WordPiece(), "[SEP]", [2, 3, 4, 5]),
        (models.WordLevel(LETTERS, unk_token="[UNK]"), None, "", [4, 5, 7]),
    ],
)
def test_tokens_of_files_that_are_no_letters(
    inner: models.Model, decoder: decoders.Decoder | None, special: str, expected: list[int],
    tmp_path: Path,
) -> None:  # fmt: skip
    """As bytes, with a prefix within words, of nucleotides alone; special ones, by name or not."""
    whole = Tokenizer(inner)
    if decoder is None:
        whole.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    else:
        whole.decoder = decoder
    whole.add_special_tokens([special] if special else [])
    whole.save(str(tmp_path / "t.json"))
    assert tokenizer_from(f"huggingface:{tmp_path}/t.json").no_letters() == expected
