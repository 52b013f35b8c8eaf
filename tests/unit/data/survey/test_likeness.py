"""Duplicates and groups by content: copies that were changed in 1%, 5% and 20% of their letters."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_helpers import texts

from longseq.config.arguments import Data
from longseq.data.datasets import open_datasets
from longseq.data.held_out import split_datasets
from longseq.data.indexed.manifest import DatasetManifest
from longseq.data.indexed.record_table import read_records
from longseq.data.prepare.job import prepare, quiet
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.settings import Settings
from longseq.data.sources.inputs import expand
from longseq.data.sources.tables import Columns
from longseq.data.survey import sketches as module
from longseq.data.survey.reading import read_all
from longseq.data.survey.sketches import sketches
from longseq.data.survey.wish import wish_of
from longseq.data.tokenizers.letters import code_table
from longseq.errors import UserError

MinHash = pytest.importorskip("sourmash").MinHash

FAMILIES, LENGTH = 4, 12_000
OTHER = bytes.maketrans(b"ACGT", b"TGCA")


def mutated(rng: np.random.Generator, text: bytes, part: float) -> bytes:
    letters = np.frombuffer(text, np.uint8).copy()
    for place in np.flatnonzero(rng.random(len(text)) < part):
        letters[place] = rng.choice([x for x in b"ACGT" if x != letters[place]])
    return letters.tobytes()


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each family an original and its likes, the families one after the other."""
    rng = np.random.default_rng(7)
    lines = []
    for family in range(FAMILIES):
        text = rng.choice(np.frombuffer(b"ACGT", np.uint8), LENGTH).tobytes()
        for name, copy in {
            "first": text,
            "same": text.lower(),
            "other": text[::-1].translate(OTHER),
            "1": mutated(rng, text, 0.01),
            "5": mutated(rng, text, 0.05),
            "20": mutated(rng, text, 0.20),
            "part": text[1000:4000],
        }.items():
            lines.append(b">%d-%s\n%s\n" % (family, name.encode(), copy))
    path = tmp_path_factory.mktemp("families") / "x.fa"
    path.write_bytes(b"".join(lines))
    return path


def made(folder: Path, source: Path, chunk: int = 0, **wanted: str) -> tuple[str, DatasetManifest]:
    settings = Settings(Recipe(reverse_complement=True), chunk_bytes=chunk, **wanted)  # type: ignore[arg-type]
    prefix = str(folder / "out")
    return prefix, prepare(expand([str(source)]), prefix, settings, True, quiet)


@pytest.mark.parametrize("chunk", [0, 5000])  # a record by itself, and several in a piece
@pytest.mark.parametrize(
    ("drop", "kept"),
    [
        ("exact", {"first", "1", "5", "20", "part"}),
        ("near:0.97", {"first", "5", "20"}),
        ("near:0.9", {"first", "20"}),
    ],
)
def test_duplicates_are_named_and_dropped(
    tmp_path: Path, families: Path, drop: str, kept: set[str], chunk: int
) -> None:
    prefix, manifest = made(tmp_path, families, chunk, drop_duplicates=drop)
    records = list(read_records(prefix))
    left = {record.name for record in records if record.documents}
    assert left == {f"{family}-{name}" for family in range(FAMILIES) for name in kept}
    assert len(texts(prefix)) == 2 * len(left)
    assert manifest.counts["duplicate_records"] == len(records) - len(left)
    rows = [line.split("\t") for line in Path(f"{prefix}.duplicates.tsv").read_text().splitlines()]
    assert {row[1] for row in rows[1:]} == {record.name for record in records} - left
    assert all(row[1].split("-")[0] == row[3].split("-")[0] for row in rows[1:])
    identities = {row[1].split("-")[1]: float(row[0]) for row in rows[1:]}
    for name, identity in identities.items():
        true = {"1": 0.99, "5": 0.95}.get(name, 1.0)
        assert identity == pytest.approx(true, abs=0.005)


def test_a_split_by_likeness_parts_no_family(tmp_path: Path, families: Path) -> None:
    """No word of 24 letters of validation is in training, on either strand, but those that a copy
    changed in 20% of its letters has in common by chance.
    """
    prefix, _ = made(tmp_path, families, group_by="likeness:0.9")
    (dataset,) = open_datasets(prefix)
    (split,) = split_datasets([dataset], Data(data_path=prefix, split="70,30,0"))
    offsets = dataset.tokens.document_offsets
    sequences, found = texts(prefix), {}
    for part in ("train", "valid"):
        documents = np.searchsorted(offsets, split.parts[part].start)
        found[part] = {
            sequences[number][i : i + 24]
            for number in documents
            for i in range(len(sequences[number]) - 23)
        }
    assert split.by == "group"
    assert len(found["valid"]) > 40_000
    shared = len(found["train"] & found["valid"]) / len(found["valid"])
    assert shared < 0.01  # 0.8^24 = 0.5%; without the groups it is 40%


def test_files_that_are_alike_stay_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    texts_of = [rng.choice(np.frombuffer(b"ACGT", np.uint8), 2000).tobytes() for _ in range(4)]
    for name, records in {"a": (0, 1), "b": (1, 2), "c": (3,)}.items():
        content = b"".join(b">%d\n%s\n" % (number, texts_of[number]) for number in records)
        (tmp_path / f"{name}.fa").write_bytes(content)
    prefix, _ = made(tmp_path, tmp_path, group_by="file-likeness")
    assert np.fromfile(f"{prefix}.group_of", "<i8").tolist() == [0] * 8 + [1] * 2


def test_nothing_is_dropped_for_a_bad_file(tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_text(f">x\n{'GATTACA' * 9}\n>bad\nAC!\n")
    (tmp_path / "b.fa").write_text(f">y\n{'GATTACA' * 9}\n")
    settings = Settings(skip_bad=True, drop_duplicates="exact", chunk_bytes=64)
    manifest = prepare(expand([str(tmp_path)]), f"{tmp_path}/out", settings, False, quiet)
    assert texts(f"{tmp_path}/out") == ["GATTACA" * 9]
    assert len(manifest.skipped) == 1


@pytest.mark.parametrize("compress", [bytes, lzma.compress])
@pytest.mark.parametrize("most", [10_000, 30_000, 10**9])
def test_as_many_hashes_however_the_letters_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, compress: Callable[[bytes], bytes]
) -> None:
    """Those below one bound, of a record as of one alone: strains take little room as .xz."""
    rng = np.random.default_rng(5)
    text = rng.choice(np.frombuffer(b"ACGT", np.uint8), 10_000).tobytes()
    strains = [mutated(rng, text, 0.01) for _ in range(20)]
    path = tmp_path / "x.fa"
    path.write_bytes(compress(b"".join(b">%d\n%s\n" % pair for pair in enumerate(strains))))
    monkeypatch.setattr(module, "HASHES", most)
    records = read_all((str(path),), Columns(), "", False, quiet, {})
    found = sketches(records, code_table(), lambda record, codes: False, True)
    assert len(found) == 20
    scaled = -(-200_000 // min(most, 200_000))
    for one, strain in zip(found, strains, strict=True):
        alone = MinHash(n=0, ksize=21, scaled=scaled)
        alone.add_sequence(strain.decode())
        assert set(one.hashes.tolist()) == set(alone.hashes)


@pytest.mark.parametrize(
    ("drop", "group_by"),
    [("nearly", ""), ("near", ""), ("near:95", ""), ("exact:1", ""), ("", "likeness:0.2")],
)
def test_wishes_that_cannot_be(drop: str, group_by: str) -> None:
    with pytest.raises(UserError, match=drop or group_by):
        wish_of(drop, group_by)
