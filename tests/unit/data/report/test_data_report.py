"""The page of a data set: each figure by hand from the letters."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from data_helpers import LAMBDA, make
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from longseq.config.arguments import Data
from longseq.data.datasets import open_datasets
from longseq.data.indexed.writer import IndexedWriter
from longseq.data.inspection import inspect
from longseq.data.prepare.job import prepare, quiet
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.settings import Settings
from longseq.data.report import facts as module
from longseq.data.report.facts import Facts, facts_of
from longseq.data.report.page import _policies, page, write_report
from longseq.data.report.pictures import pictures
from longseq.data.sources.inputs import expand
from longseq.errors import FullDisk, UserError
from tests.full_disk import room_for


def facts(prefix: str, split: str = "1,0,0") -> Facts:
    flags = Data(data_path=prefix, split=split)
    (dataset,) = open_datasets(prefix)
    return facts_of(dataset, flags)


@pytest.mark.parametrize("tokenizer", ["nucleotide", "codon", "kmer:2"])
@pytest.mark.parametrize("block", [7, 1 << 22])
def test_gc_of_each_document(
    tmp_path: Path, tokenizer: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However documents lie in the blocks that are read."""
    monkeypatch.setattr(module, "BLOCK", block)
    rng = np.random.default_rng(0)
    records = ["".join(rng.choice(list("ACGT"), 6 * int(n))) for n in rng.integers(1, 9, 30)]
    content = "".join(f">{n}\n{text}\n" for n, text in enumerate(records))
    found = facts(make(tmp_path, content, tokenizer=tokenizer)[0])
    expected = [(text.count("G") + text.count("C")) / len(text) for text in records]
    assert found.gc.tolist() == pytest.approx(expected)
    assert found.letters.tolist() == list(map(len, records))
    assert found.lengths.tolist() == list(map(len, records))
    assert found.gc_of_all == pytest.approx(np.average(expected, weights=found.letters))


@pytest.mark.parametrize("block", [3, 1 << 22])
def test_documents_of_no_tokens_have_no_letters(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Megatron's files may have, first, last and side by side; codes 0 and 3 are A and T."""
    monkeypatch.setattr(module, "BLOCK", block)
    documents = [[], [1, 1, 1, 15], [], [], [0, 0, 15], [2, 2, 15], []]
    writer = IndexedWriter(str(tmp_path / "t"), np.uint16)
    for tokens in documents:
        writer.add(np.array(tokens))
        writer.end_document()
    writer.finish()
    (dataset,) = open_datasets(str(tmp_path / "t"), "nucleotide")
    found = facts_of(dataset, Data(data_path=str(tmp_path / "t"), split="1,0,0"))
    assert found.letters.tolist() == [3, 2, 2]
    assert found.gc.tolist() == [1, 0, 1]
    assert found.gc_of_all == pytest.approx(5 / 7)
    assert found.tokens.sum() == 10


def test_a_token_outside_the_vocabulary_is_named(tmp_path: Path) -> None:
    writer = IndexedWriter(str(tmp_path / "t"), np.uint16)
    writer.add_documents(np.array([1, 15, 40, 15]), np.array([2, 2]))
    writer.finish()
    flags = Data(data_path=str(tmp_path / "t"), tokenizer_type="nucleotide", split="1,0,0")
    with pytest.raises(UserError, match=r"t\.bin: token number 2 is outside the vocabulary of 16"):
        write_report(flags)


def test_a_name_is_no_formula(tmp_path: Path) -> None:
    """Neither of a file nor of a token."""
    name = r"x$\q$"
    for place in range(2):
        (tmp_path / f"{place}-{name}.txt").write_text(f"{name} a\n{name} b\n")
    vocabulary = {token: number for number, token in enumerate(("<eod>", "[UNK]", name, "a", "b"))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(tmp_path / "words.json"))
    settings = Settings(Recipe(f"huggingface:{tmp_path}/words.json"))
    files = [f"{tmp_path}/{place}-{name}.txt" for place in range(2)]
    prepare(expand(files), f"{tmp_path}/out", settings, False, quiet)
    drawn = dict(pictures(facts(f"{tmp_path}/out")))
    assert f">{name}<" in drawn["Most frequent tokens"]
    assert f">0-{name}.txt<" in drawn["Tokens by source"]


def test_repeats_weights_and_other_letters(tmp_path: Path) -> None:
    content = ">a\nACgtACNNRA\n>b <x>\nggGG\n"
    prefix, manifest = make(tmp_path, content, lower_case_weight=0.1, unknown_weight=0.0)
    assert manifest.counts["lower_case_bases"] == 4
    found = facts(prefix)
    assert found.weights == {1.0: 9, 0.1: 4, 0.0: 3}
    assert found.not_acgt == 3
    text = page(found)
    assert "<x>" not in text
    assert text.count("data:image/svg+xml") == 5
    assert re.search(r"28\.57%.{0,40}lower case", text, re.S)


def test_a_full_disk_leaves_the_page_of_before(tmp_path: Path) -> None:
    prefix, _ = make(tmp_path, ">a\nACGT\n")
    flags = Data(data_path=prefix, split="1,0,0")
    write_report(flags)
    before = Path(f"{prefix}.report.html").read_bytes()
    with room_for(500), pytest.raises(FullDisk, match=r"out\.report\.html cannot .*no space left"):
        write_report(flags)
    assert Path(f"{prefix}.report.html").read_bytes() == before


@pytest.mark.parametrize("block", [7, 1 << 22])
def test_gc_of_parts_of_one_record(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chromosome is cut by position: a part's letters are its own, not those of the record."""
    monkeypatch.setattr(module, "BLOCK", block)
    text = "AT" * 300 + "GGAT" * 100
    found = facts(make(tmp_path, f">one\n{text}\n")[0], "60,40,0")
    assert found.split.by == "position"
    for part in found.parts[:2]:
        (start,), (length,) = (
            getattr(found.split.parts[part.name], n) for n in ("start", "length")
        )
        inside = text[start : start + length]
        assert part.gc == pytest.approx((inside.count("G") + inside.count("C")) / len(inside))
    assert abs(found.parts[0].gc - found.parts[1].gc) > 0.1


def test_shares_of_a_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten groups of one size at 70, 20, 10: seven, two and one, each with its letters."""
    content = "".join(f">{n}\n{'AC' * 50 if n % 2 else 'AT' * 50}\n" for n in range(10))
    prefix, _ = make(tmp_path, content)
    found = facts(prefix, "70,20,10")
    assert [(part.groups, round(part.got, 6)) for part in found.parts] == [
        (7, 0.7), (2, 0.2), (1, 0.1),
    ]  # fmt: skip
    assert all(part.fair for part in found.parts)
    offsets, total = np.diff(found.dataset.tokens.document_offsets), 0.0
    total = sum(part.gc * part.documents for part in found.parts)
    assert total == pytest.approx(0.25 * len(offsets))
    write_report(Data(data_path=prefix, split="70,20,10"))
    assert "70.00% of the tokens for 70.00% asked" in capsys.readouterr().out
    assert Path(f"{prefix}.report.html").exists()


def test_what_became_of_letters_is_a_part_of_its_like(tmp_path: Path) -> None:
    """Of letters on both strands, of tokens, of letters with gaps: each by hand."""
    one, other = "ACGTTGCAGTCA" * 5, "TTACGGCATTAG" * 5
    content = f">a\n{one}\n>b\n{one}\n>c\n{other}AC\n>d\n{other[1:]}NNN{'-' * 58}A\n"
    (tmp_path / "x.fa").write_text(content)
    recipe = Recipe("codon", ambiguous="split", reverse_complement=True)
    settings = Settings(recipe, drop_duplicates="exact")
    prepare(expand([f"{tmp_path}/x.fa"]), f"{tmp_path}/out", settings, False, quiet)
    found = facts(f"{tmp_path}/out")
    shown = dict(_policies(found))  # 60 + 60 + 62 + 63 letters
    written = found.dataset.tokens.num_tokens - found.dataset.tokens.num_documents
    assert shown == {
        "alignment gaps, no base": "58 (19.142%)",
        "not ACGT, split there": f"{2 * 6} ({12 / 490:.3%})",
        "after a record's last whole token": f"{2 * 2} ({4 / 490:.3%})",
        "tokens of dropped duplicates": f"40 ({40 / (40 + written):.3%})",
    }


def test_what_is_held_out_by_name_has_no_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As inspect has it; of the others each has what --split asks for."""
    prefix, _ = make(tmp_path, f">big\n{'ACGT' * 60}\n>small\n{'ACCA' * 40}\n")
    write_report(Data(data_path=prefix, split="949,50,1", valid_records="big"))
    said = capsys.readouterr().out
    assert f"  {'valid':<32}  59.95% of the tokens, held out by name: 241 in 1 group, 1 doc" in said
    assert (
        f"  {'train':<32}  40.05% of the tokens for 94.90% asked, far from its share: 161 in"
        in said
    )


def test_tokens_in_no_part_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A gene across the cut between two genes, by marking each token that a part has."""
    genome = "\n".join(LAMBDA.read_text().split("\n")[:150])
    prefix, manifest = make(tmp_path, genome, tokenizer="codon", genes=True)
    found = facts(prefix, "949,50,1")
    assert found.split.by == "document"
    used = np.zeros(manifest.num_tokens, dtype=bool)
    for part in found.split.parts.values():
        for start, length in zip(part.start, part.length, strict=True):
            used[start : start + length] = True
    offsets = found.dataset.tokens.document_offsets.tolist()
    whole = sum(not used[a:b].any() for a, b in itertools.pairwise(offsets))
    left = int((~used).sum())
    assert (found.in_no_part, whole) == ((left, whole), 1)
    assert [part.got for part in found.parts] == [part.tokens / len(used) for part in found.parts]
    flags = Data(data_path=prefix, split="949,50,1")
    write_report(flags)
    row = f"  {'in no part':<32}  {left / len(used):.2%} of the tokens, where a cut goes through: "
    assert f"{row}{left}, 1 whole document among them\n" in capsys.readouterr().out
    assert "in no part" in Path(f"{prefix}.report.html").read_text()
    inspect(flags, 100)
    assert (
        f"test 0 tokens, in no part {left} tokens (1 whole document)\n" in capsys.readouterr().out
    )


def test_nothing_is_told_of_no_part_where_all_is_in_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix, _ = make(tmp_path, ">a\nACGT\n>b\nACGT\n")
    flags = Data(data_path=prefix, split="1,0,0")
    write_report(flags)
    inspect(flags, 100)
    assert "no part" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("length", "unit"),
    [(40, "letters"), (4_000, "thousand letters"), (4_000_000, "million letters")],
)
def test_an_axis_counts_in_what_has_few_digits(tmp_path: Path, length: int, unit: str) -> None:
    content = f">a\n{'AC' * (length // 2)}\n>b\n{'AT' * (length // 2)}\n"
    drawn = dict(pictures(facts(make(tmp_path, content)[0])))["GC of documents"]
    words = re.findall("<text[^>]*>([^<]*)</text>", drawn)
    assert unit in words


def test_pictures_are_read_on_a_telephone_and_say_what_a_line_is(tmp_path: Path) -> None:
    """340 pixels wide there: no letter is below 8."""
    dice = np.random.default_rng(1)
    text = "".join(f">{n}\n{''.join(dice.choice(list('ACGT'), 90 + n))}\n" for n in range(12))
    for tokenizer, turned in (("nucleotide", False), ("kmer:4", True)):
        folder = tmp_path / tokenizer
        folder.mkdir()
        drawn = dict(pictures(facts(make(folder, text, tokenizer=tokenizer)[0])))
        for svg in drawn.values():
            wide = float(re.findall(r'viewBox="0 0 ([\d.]+)', svg)[0])
            sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)]
            assert min([10.0, *sizes]) * 340 / wide > 8
        assert "GC of all letters: " in drawn["GC of documents"]
        assert ("rotate(-90" in drawn["Most frequent tokens"].split(">token<")[0]) == turned


def test_lengths_that_are_alike_have_bars_that_are_alike(tmp_path: Path) -> None:
    """One record of each length from 20 to 77: bars of two, without a comb of others."""
    text = "".join(f">{n}\n{'A' * n}\n" for n in range(20, 78))
    drawn = dict(pictures(facts(make(tmp_path, text)[0])))["Lengths of records"]
    bars = re.findall(r'<path d="([^"]*)" clip-path="[^"]*" style="fill: #2f6fdb', drawn)
    corners = [re.findall(r"[ML] [\d.]+ ([\d.]+)", bar) for bar in bars]
    assert len(bars) == 29
    assert len({float(max(ys)) - float(min(ys)) for ys in corners}) == 1
