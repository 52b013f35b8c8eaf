"""What makes no document is nowhere among the documents, and counted once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import texts

from longseq.data.indexed.manifest import DatasetManifest
from longseq.data.indexed.record_table import read_records
from longseq.data.prepare import job
from longseq.data.prepare.job import prepare, quiet
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.settings import Settings
from longseq.data.sources.inputs import expand
from longseq.errors import UserError

WORDS = ("alpha", "beta", "gamma", "delta")


def words(folder: Path) -> str:
    """A tokenizer of text that makes no token of blanks."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    known = {word: number for number, word in enumerate(("<eod>", "[UNK]", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "words.json"))
    return f"huggingface:{folder / 'words.json'}"


def prepared(folder: Path, *names: str, **flags: Any) -> tuple[str, DatasetManifest]:
    """Prepare these files of a folder; `recipe` holds what is the recipe's."""
    recipe = Recipe(**flags.pop("recipe", {}))
    prefix, paths = str(folder / "out"), [str(folder / name) for name in names]
    return prefix, prepare(expand(paths), prefix, Settings(recipe, **flags), True, quiet)


@pytest.mark.parametrize("tags", ["", "fam"])
@pytest.mark.parametrize("chunk", [16, 1 << 19])
def test_a_text_without_tokens_shifts_no_other(tmp_path: Path, chunk: int, tags: str) -> None:
    lines = [" ", "alpha", " ", "beta beta", "gamma gamma gamma", "delta", "  "]
    families = "bxmyxzb"
    rows = [{"text": text, "id": f"r{place}"} for place, text in enumerate(lines)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = ["name\tfam", *(f"r{place}\t{family}" for place, family in enumerate(families))]
    (tmp_path / "m.tsv").write_text("\n".join(table) + "\n")
    prefix, manifest = prepared(
        tmp_path, "x.jsonl", chunk_bytes=chunk, metadata=str(tmp_path / "m.tsv"), group_by="fam",
        recipe={"tokenizer": words(tmp_path), "tags": tags},
    )  # fmt: skip
    wanted = [1, 3, 4, 5]
    said = [f"<fam={families[place]}>" if tags else "" for place in wanted]
    expected = [tag + lines[place] for tag, place in zip(said, wanted, strict=True)]
    assert texts(prefix) == expected
    assert np.fromfile(f"{prefix}.group_of", "<i8").tolist() == [0, 1, 0, 2]
    assert [one.documents for one in read_records(prefix)] == [0, 1, 0, 1, 1, 1, 0]
    assert manifest.counts["below_a_token"] == 3


@pytest.mark.parametrize("ambiguous", ["keep", "split"])
@pytest.mark.parametrize("tokenizer", ["kmer:4", "nucleotide"])
def test_counts_of_duplicates_do_not_depend_on_length(
    tmp_path: Path, tokenizer: str, ambiguous: str
) -> None:
    rng = np.random.default_rng(3)
    one, other = ("".join(rng.choice(list("ACGT"), 90)) for _ in range(2))
    one = one[:20] + "NNRN" + one[20:] + "NN"
    (tmp_path / "x.fa").write_text(f">a\n{one}\n>b\n{other}\n>c\n{one}\n>d\n{one}\n")
    found = []
    for chunk in (32, 1 << 19):
        prefix, manifest = prepared(
            tmp_path, "x.fa", chunk_bytes=chunk, drop_duplicates="exact",
            recipe={"tokenizer": tokenizer, "ambiguous": ambiguous, "reverse_complement": True},
        )  # fmt: skip
        found.append(manifest.counts)
        unknown = sum(text.count("[UNK]") for text in texts(prefix))
        assert manifest.counts.get("unknown_words", 0) == unknown
        assert bool(unknown) == (tokenizer != "nucleotide" and ambiguous == "keep")
    assert found[0] == found[1]
    assert found[0]["duplicate_records"] == 2


def letters(seed: int, count: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), count))


GENBANK = """LOCUS       {name}              {size} bp    DNA     linear   BCT 01-JAN-2000
DEFINITION  x.
ACCESSION   {name}
VERSION     {name}.1
FEATURES             Location/Qualifiers
     source          1..{size}
{feature}ORIGIN
        1 {letters}
//
"""
CODING = '     CDS             1..{stop}\n                     /gene="g"\n'


def genbank(path: Path, sequence: str, stop: int = 0) -> None:
    """A record with a feature up to this base, or with none."""
    feature = CODING.format(stop=stop) if stop else ""
    text = GENBANK.format(
        name=path.stem, size=len(sequence), feature=feature, letters=sequence.lower()
    )
    path.write_text(text)


def test_nothing_is_dropped_for_what_the_recipe_leaves_out(tmp_path: Path) -> None:
    pytest.importorskip("sourmash")
    long = letters(1, 4000)
    (tmp_path / "x.fa").write_text(f">long\n{long}N\n>clean\n{long[:3900]}\n>same\n{long[:3900]}\n")
    prefix, manifest = prepared(
        tmp_path, "x.fa", drop_duplicates="near:0.95", recipe={"ambiguous": "drop"}
    )
    assert [one.documents for one in read_records(prefix)] == [0, 1, 0]
    assert manifest.counts["dropped_records"] == manifest.counts["duplicate_records"] == 1


@pytest.mark.parametrize("stop", [0, 700])  # without a feature; with one that does not fit
def test_nothing_is_dropped_for_what_has_no_feature(tmp_path: Path, stop: int) -> None:
    sequence = letters(2, 600)
    genbank(tmp_path / "A.gb", sequence, stop)
    genbank(tmp_path / "B.gb", sequence, 90)
    genbank(tmp_path / "C.gb", sequence, 90)
    prefix, manifest = prepared(
        tmp_path, "A.gb", "B.gb", "C.gb", drop_duplicates="exact", skip_bad=True,
        recipe={"features": "CDS"},
    )  # fmt: skip
    assert texts(prefix) == [sequence[:90]]
    rows = Path(f"{prefix}.duplicates.tsv").read_text().splitlines()[1:]
    assert [row.split("\t")[-1] for row in rows] == [str(tmp_path / "B.gb")]
    assert len(manifest.skipped) == bool(stop)


def test_nothing_is_dropped_for_what_no_region_is_of(tmp_path: Path) -> None:
    sequence = letters(2, 600)
    (tmp_path / "x.fa").write_text(f">a\n{sequence}\n>b\n{sequence}\n")
    (tmp_path / "r.bed").write_text("b\t10\t90\n")
    prefix, _ = prepared(
        tmp_path, "x.fa", drop_duplicates="exact", regions=(str(tmp_path / "r.bed"),),
        recipe={"features": "region"},
    )  # fmt: skip
    assert texts(prefix) == [sequence[10:90]]


def test_a_file_that_others_were_dropped_for_is_not_skipped(tmp_path: Path) -> None:
    """What is wrong with it is seen in the second pass alone: its region goes beyond it."""
    sequence = letters(2, 600)
    for name in "ab":
        (tmp_path / f"{name}.fa").write_text(f">{name}\n{sequence}\n")
    (tmp_path / "r.bed").write_text("a\t10\t700\nb\t10\t90\n")
    with pytest.raises(UserError, match=r"a\.fa has 600 .* of other files were dropped"):
        prepared(
            tmp_path, "a.fa", "b.fa", drop_duplicates="exact", skip_bad=True,
            regions=(str(tmp_path / "r.bed"),), recipe={"features": "region"},
        )  # fmt: skip


@pytest.mark.parametrize("more", ["", ">more\nACGT\n>again\nACGT\n"])
def test_a_file_that_changes_between_two_passes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    """With as many records, and with more, wherever they are read."""
    one, two = letters(1, 300), letters(2, 300)
    path, real = tmp_path / "x.fa", job._write
    path.write_text(f">a\n{one}\n>same\n{one}\n>b\n{two}\n")

    def changed(*args: Any, **keywords: Any) -> DatasetManifest:
        path.write_text(f">new\n{letters(3, 300)}\n>a\n{one}\n>b\n{two}\n{more}")
        return real(*args, **keywords)

    monkeypatch.setattr(job, "_write", changed)
    with pytest.raises(UserError, match=r"x\.fa has changed since its records were compared"):
        prepared(tmp_path, "x.fa", drop_duplicates="exact", chunk_bytes=16)
    assert [found.name for found in tmp_path.iterdir()] == ["x.fa"]
    monkeypatch.undo()
    assert prepared(tmp_path, "x.fa", drop_duplicates="exact")[1].num_documents == 3 + bool(more)


BAD = ">bad\nACGT!ACGT\n"


def test_a_file_that_is_left_out_leaves_no_tag(tmp_path: Path) -> None:
    """Nor is a name said, or a row of the table used, for its sake."""
    (tmp_path / "a.fa").write_text(f">a1\nACGT\n{BAD}")
    (tmp_path / "b.fa").write_text(">b1\nGGCC\n")
    (tmp_path / "m.tsv").write_text("name\tfam\tonly\na1\tx\tz\nb1\ty\t\n")
    flags: dict[str, Any] = {"skip_bad": True, "metadata": str(tmp_path / "m.tsv")}
    prefix, manifest = prepared(
        tmp_path, "a.fa", "b.fa", chunk_bytes=8, recipe={"tags": "fam"}, **flags
    )
    assert json.loads(Path(f"{prefix}.tags.json").read_text()) == ["<fam=y>"]
    assert texts(prefix) == ["<fam=y>GGCC"]
    assert manifest.counts["metadata_unused"] == 1
    with pytest.raises(UserError, match="--tags only: no record says its only"):
        prepared(tmp_path, "a.fa", "b.fa", chunk_bytes=8, recipe={"tags": "only"}, **flags)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_is_left_out_takes_no_region(tmp_path: Path, workers: int) -> None:
    (tmp_path / "a.fa").write_text(f">chr1\n{'ACGT' * 9}\n{BAD}")
    (tmp_path / "b.fa").write_text(f">chr1\n{'GGCC' * 9}\n")
    (tmp_path / "r.bed").write_text("chr1\t0\t4\n")
    prefix, manifest = prepared(
        tmp_path, "a.fa", "b.fa", chunk_bytes=16, skip_bad=True, workers=workers,
        regions=(str(tmp_path / "r.bed"),), recipe={"features": "region"},
    )  # fmt: skip
    assert texts(prefix) == ["GGCC"]
    assert [Path(one["path"]).name for one in manifest.skipped] == ["a.fa"]


def test_a_file_that_is_left_out_teaches_no_word(tmp_path: Path) -> None:
    """Cut off, or with a letter that is none."""
    (tmp_path / "good.fa").write_text(f">a\n{letters(5, 4000)}\n")
    (tmp_path / "bad.fa").write_text(f">b\n{'GATTACA' * 999}\n{BAD}")
    (tmp_path / "cut.gb").write_text(f"LOCUS{' ' * 9}\n")
    made = []
    for names in (("good.fa",), ("bad.fa", "cut.gb", "good.fa")):
        prefix, _ = prepared(tmp_path, *names, train_tokenizer="bpe:40", skip_bad=True)
        made.append(Path(f"{prefix}.tokenizer.json").read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize("word", ["alpha beta ", "alphabeta", "ä", "alpha\u00a0ä "])
def test_a_long_text_is_cut_as_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr("longseq.data.prepare.text.PIECE", 64)
    (tmp_path / "x.txt").write_text(f"{word * 99}\n")
    made = []
    for chunk in (0, 150):
        prefix, _ = prepared(
            tmp_path, "x.txt", chunk_bytes=chunk, allow_unknown=1.0,
            recipe={"tokenizer": words(tmp_path)},
        )  # fmt: skip
        made.append(Path(f"{prefix}.bin").read_bytes())
    assert made[0] == made[1]


def test_no_word_is_divided_at_the_end_of_a_stretch(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(f"{'alpha beta ' * 20_000}\n")
    _, manifest = prepared(
        tmp_path, "x.txt", chunk_bytes=1 << 17, recipe={"tokenizer": words(tmp_path)}
    )
    assert manifest.num_tokens == 40_001
    assert "unknown_letters" not in manifest.counts


def test_a_file_that_cannot_be_compared_is_left_out(tmp_path: Path) -> None:
    """Protein is good for this tokenizer, and not for who looks for duplicates."""
    (tmp_path / "a.fa").write_text(">a\nMEEPQ\n")
    (tmp_path / "b.fa").write_text(">b\nGGCC\n")
    prefix, manifest = prepared(
        tmp_path, "a.fa", "b.fa", drop_duplicates="exact", skip_bad=True,
        recipe={"tokenizer": "byte"},
    )  # fmt: skip
    assert texts(prefix) == ["GGCC"]
    assert "a.fa could not be compared" in manifest.skipped[0]["reason"]
