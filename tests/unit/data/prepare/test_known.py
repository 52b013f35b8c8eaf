"""What is known of records: it groups them, and stands as tags before their documents."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from data_helpers import options

from longseq.__main__ import run_verb
from longseq.data.datasets import check_data, documents_of, open_datasets
from longseq.data.held_out import split_datasets
from longseq.data.indexed.record_table import read_records
from longseq.data.opening import open_data
from longseq.data.sources.annotation.metadata import Metadata
from longseq.errors import UserError
from tests.file_formats import parquet

GENOMES = ["a", "b", "a", "c", "b", "a"]  # of six records; those of a group are not side by side
TABLE = "name,genome,clade\n" + "".join(
    f"r{number},{genome},{'x' if genome != 'c' else ''}\n" for number, genome in enumerate(GENOMES)
)


def fasta(folder: Path, length: int = 40) -> str:
    """Records of one letter each, so that a token says which it is of; r1 with N and lower case."""
    letters = ["A", "C", "G", "T", "R", "Y"]
    lines = [f">r{number} more\n{letter * length}\n" for number, letter in enumerate(letters)]
    lines[1] = ">r1\n" + "C" * (length - 4) + "NNcc\n"
    (folder / "x.fa").write_text("".join(lines))
    (folder / "x.csv").write_text(TABLE)
    return str(folder / "x.fa")


def run(folder: Path, *words: str) -> str:
    prefix = str(folder / "out")
    assert run_verb(["prepare", *words, "--output", prefix, "--overwrite"]) == 0
    check_data(prefix)
    return prefix


def test_groups_that_are_not_side_by_side_stay_whole(tmp_path: Path) -> None:
    words = ["--metadata", str(tmp_path / "x.csv"), "--group-by", "genome"]
    prefix = run(tmp_path, fasta(tmp_path), *words)
    assert [record.facts.get("clade") for record in read_records(prefix)][2:4] == ["x", None]
    (dataset,) = open_datasets(prefix)
    assert documents_of(dataset).owner.tolist() == [0, 1, 0, 2, 1, 0]
    parts = set()
    for seed in range(8):
        (split,) = split_datasets([dataset], options(prefix, split="1,1,1", split_seed=seed))
        held = [np.flatnonzero(np.isin(dataset.tokens.document_offsets, split.parts[p].start))
                for p in ("train", "valid", "test")]  # fmt: skip
        found = sorted("".join(sorted({GENOMES[n] for n in numbers})) for numbers in held)
        assert sorted("".join(found)) == ["a", "b", "c"]
        assert sum(map(len, held)) == 6
        parts.add(tuple(held[1].tolist()))
    assert len(parts) > 2
    (split,) = split_datasets([dataset], options(prefix, split="1,1,0", valid_records="r4"))
    assert split.parts["valid"].num_tokens == 82  # and r1, which is of the same genome


def test_an_id_that_is_null_is_no_name(tmp_path: Path) -> None:
    lines = [json.dumps({"text": "ACGT", "id": name}) for name in (None, "None", 0)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    prefix = run(tmp_path, f"{tmp_path}/x.jsonl")
    assert [record.name for record in read_records(prefix)] == ["", "None", "0"]


def test_columns_of_a_table(tmp_path: Path) -> None:
    columns = {"dna": ["ACGT", "GG", "TTT"], "species": ["e", "f", "e"], "gc": [0.5, 1.0, None]}
    (tmp_path / "x.parquet").write_bytes(parquet(columns))
    prefix = run(tmp_path, f"{tmp_path}/x.parquet", "--group-by", "species", "--tags", "gc,species")
    (dataset,) = open_datasets(prefix)
    assert documents_of(dataset).owner.tolist() == [0, 1, 0]
    decoded = [dataset.tokenizer.decode(dataset.tokens.document(i)) for i in range(3)]
    assert decoded == ["<gc=0.5><species=e>ACGT|", "<gc=1.0><species=f>GG|", "<gc=><species=e>TTT|"]


@pytest.mark.parametrize("tokenizer", ["nucleotide", "codon"])
@pytest.mark.parametrize("flags", [[], ["--reverse-complement", "--ambiguous", "split"]])
def test_tags_stand_before_every_document(tmp_path: Path, tokenizer: str, flags: list[str]) -> None:
    """Without its tags each document is what it is without --tags; the tags weigh nothing."""
    words = [fasta(tmp_path), "--tokenizer", tokenizer, "--lower-case-weight", "0.5", *flags]
    (plain,) = open_datasets(run(tmp_path, *words))
    weights = np.fromfile(f"{plain.prefix}.weights", np.uint8)
    documents = [plain.tokens.document(i) for i in range(plain.tokens.num_documents)]
    assert plain.manifest is not None
    levels = np.array(plain.manifest.weights)[weights]
    table = ["--metadata", str(tmp_path / "x.csv"), "--tags", "clade,genome"]
    (tagged,) = open_datasets(run(tmp_path, *words, *table))
    assert tagged.tokens.num_documents == len(documents)
    size = plain.tokenizer.vocab_size
    names = tagged.tokenizer.names()
    assert names[size:] == ["<clade=x>", "<genome=a>", "<genome=b>", "<clade=>", "<genome=c>"]
    owners = [
        r for r, record in enumerate(read_records(plain.prefix)) for _ in range(record.documents)
    ]
    for number, (document, owner) in enumerate(zip(documents, owners, strict=True)):
        found = tagged.tokens.document(number)
        assert found[2:].tolist() == document.tolist()
        assert names[int(found[1])] == f"<genome={GENOMES[owner]}>"
    assert tagged.manifest is not None
    found = np.array(tagged.manifest.weights)[np.fromfile(f"{tagged.prefix}.weights", np.uint8)]
    tags = np.concatenate([tagged.tokens.document(i) for i in range(len(documents))]) >= size
    assert (found[tags] == 0).all()
    assert found[~tags].tolist() == levels.tolist()
    for ending in ("places", "groups"):
        before = f"{plain.prefix}.{ending}"
        assert Path(before).exists() == (ending in tagged.manifest.files)


def test_a_cut_by_position_counts_no_tags(tmp_path: Path) -> None:
    """Of one tagged record, both strands: no base is on two sides of the cut."""
    letters = "".join(np.random.default_rng(4).choice(list("ACGT"), 3000))
    (tmp_path / "x.fa").write_text(f">r0\n{letters}\n")
    (tmp_path / "x.csv").write_text(TABLE)
    words = ["--metadata", f"{tmp_path}/x.csv", "--tags", "genome,clade", "--reverse-complement"]
    (dataset,) = open_datasets(run(tmp_path, f"{tmp_path}/x.fa", *words))
    (split,) = split_datasets([dataset], options(dataset.prefix, split="7,3,0"))
    words_of = []
    for part in ("train", "valid"):
        segments = split.parts[part]
        pairs = zip(segments.start.tolist(), segments.length.tolist(), strict=True)
        texts = [dataset.tokenizer.decode(dataset.tokens.read(*pair)).strip("|") for pair in pairs]
        texts = [text.rpartition(">")[2] for text in texts]
        assert sum(map(len, texts)) == 2 * (2100 if part == "train" else 900)
        other = str.maketrans("ACGT", "TGCA")
        strands = texts + [text[::-1].translate(other) for text in texts]
        words_of.append({s[i : i + 20] for s in strands for i in range(len(s) - 19)})
    assert not words_of[0] & words_of[1]


def test_training_takes_no_loss_on_tags(tmp_path: Path) -> None:
    words = ["--metadata", str(tmp_path / "x.csv"), "--tags", "genome"]
    prefix = run(tmp_path, fasta(tmp_path), *words)
    data = open_data(options(prefix), 64, 1)
    assert data.vocab_size == 16 + 3
    assert data.train is not None
    batch = data.train.batch(range(4))
    assert ((batch.labels >= 16) == (batch.loss_mask == 0)).all()
    assert any("tags" in note for note in data.notes)
    assert json.loads(Path(f"{prefix}.tags.json").read_text())[0] == "<genome=a>"
    with pytest.raises(UserError, match="begin with tags"):
        open_data(options(prefix, reverse_complement_prob=0.5), 64, 1)


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        (
            "m.tsv",
            'r1\t"Brassica" napus\nr2\t5" a\nr3\t"a ""b"""',
            ["Brassica napus", '5" a', 'a "b"'],
        ),
        ("m.csv", 'r1,"two\r\nlines"\r\nr2,"a, b"\r\nr3,c\r\n\r\n', ["two??lines", "a, b", "c"]),
    ],
)
def test_a_table_is_read_as_spreadsheets_write_it(
    tmp_path: Path, name: str, text: str, values: list[str]
) -> None:
    separator = text[2]
    (tmp_path / name).write_text(f"name{separator}genome\n{text}", newline="")
    table = Metadata(str(tmp_path / name))
    assert [table.of("", f"r{n}") for n in (1, 2, 3)] == [{"genome": v} for v in values]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--group-by", "genome"], "record r0 more does not say its 'genome'.*--metadata"),
        (["--group-by", "clade", "--metadata", "{0}/x.csv"], "record r3 more .*'clade'.*genome"),
        (["--tags", "clad", "--metadata", "{0}/x.csv"], "--tags clad: no record says its clad"),
        (["--tags", "a,a"], "each once"),
        (["--tag-weight", "0.5"], "there are no --tags"),
        (["--tags", "genome", "--tag-weight", "2"], "from 0 to 1"),
        (["--metadata", "{0}/none.tsv"], "No such file"),
        (["--metadata", "{0}/twice.tsv"], "two lines are about r1"),
        (["--metadata", "{0}/short.tsv"], "line 2 has 1 columns, its first line 2"),
        (["--metadata", "{0}/x.fa"], "names no column"),
        (["--metadata", "{0}/mark.tsv"], r"mark\.tsv is empty"),
        (["--metadata", "{0}/long.tsv"], r"long\.tsv: line 2 .*field larger than"),
        (["--metadata", "{0}/open.tsv"], r"open\.tsv: line 3 opens a quote .* not closed there \("),
        (["--metadata", "{0}/last.tsv"], r"last\.tsv: line 3 opens a quote .* not closed there \("),
        (["--metadata", "{0}/open.csv"], r"open\.csv: line 4 opens a quote that is not closed: "),
    ],
)
def test_what_is_refused(tmp_path: Path, words: list[str], message: str) -> None:
    source = fasta(tmp_path)
    (tmp_path / "twice.tsv").write_text("name\tgenome\nr1\ta\nr1\tb\n")
    (tmp_path / "short.tsv").write_text("name\tgenome\nr1\n")
    (tmp_path / "mark.tsv").write_text("\ufeff", encoding="utf-8")
    (tmp_path / "long.tsv").write_text("name\tgenome\nr1\t" + "x" * 200_000)
    (tmp_path / "open.tsv").write_text('name\tgenome\nr0\tx\nr1\t"a\nr2\tb\nr3\t"c"\n')
    (tmp_path / "last.tsv").write_text('name\tgenome\nr0\tx\nr1\t"a')
    (tmp_path / "open.csv").write_text('name,genome\nr1,"two\nlines"\nr2,"b\nr3,c\n')
    with pytest.raises(UserError, match=message):
        run(tmp_path, source, *[word.format(tmp_path) for word in words])
