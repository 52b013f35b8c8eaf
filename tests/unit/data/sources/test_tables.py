"""Parquet, Arrow and .2bit: the same documents as from FASTA, whatever the size of the pieces."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from data_helpers import make, texts

from longseq.data.indexed.record_table import read_records
from longseq.data.prepare.job import prepare, quiet
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.settings import Settings
from longseq.data.sources import tables
from longseq.data.sources.inputs import expand, open_source
from longseq.data.sources.pieces import Record
from longseq.data.sources.tables import Columns
from longseq.errors import FullDisk, UserError
from tests.file_formats import arrow_file, arrow_stream, parquet, twobit
from tests.full_disk import room_for

RNG = np.random.default_rng(5)
LETTERS = ["".join(RNG.choice(list("ACGTacgtNn"), n)) for n in (3, 700, 0, 64, 65, 5000, 1, 1)]
RECORDS = [(f"\0{number}", letters) for number, letters in enumerate(LETTERS)]
FASTA = "".join(f">{name}\n{letters}\n" for name, letters in RECORDS)
COLUMNS = {"name": [name for name, _ in RECORDS], "n": list(range(8)), "seq": LETTERS}
DICTIONARY = pyarrow.array(LETTERS).dictionary_encode()
BINARY = [letters.encode() for letters in LETTERS]
BINARY_NAMES = [name.encode() for name, _ in RECORDS]
TABLE = Columns("seq", "name")


def tokens_of(prefix: str) -> list[bytes]:
    endings = ("bin", "idx", "weights")
    return [Path(f"{prefix}.{ending}").read_bytes() for ending in endings]


def prepared(
    folder: Path, name: str, content: bytes, columns: Columns, chunk: int = 0, **recipe: Any
) -> str:
    (folder / name).write_bytes(content)
    prefix, recipe_of = str(folder / "out"), Recipe(lower_case_weight=0.5, **recipe)
    settings = Settings(recipe_of, chunk_bytes=chunk, columns=columns)
    prepare(expand([str(folder / name)]), prefix, settings, True, quiet)
    return prefix


@pytest.mark.parametrize("chunk", [64, 1 << 20])
@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("x.2bit", twobit(RECORDS), Columns()),
        ("x.2bit.gz", gzip.compress(twobit(RECORDS)), Columns()),
        ("x.parquet", parquet(COLUMNS, row_group_size=3), TABLE),
        ("x.arrow", arrow_stream(COLUMNS), TABLE),
        ("y.arrow", arrow_file(COLUMNS), TABLE),
        ("y.arrow.gz", gzip.compress(arrow_file(COLUMNS)), TABLE),
        (
            "z.parquet",
            parquet({**COLUMNS, "seq": DICTIONARY}),
            TABLE,
        ),
        ("b.parquet", parquet({**COLUMNS, "seq": BINARY, "name": BINARY_NAMES}), TABLE),
        ("d.arrow", arrow_file({**COLUMNS, "seq": DICTIONARY}), TABLE),
    ],
)
def test_the_same_as_from_fasta(
    tmp_path: Path, name: str, content: bytes, columns: Columns, chunk: int
) -> None:
    """Tokens, the weights of soft-masked letters, and names; no copy is left."""
    fasta = prepared(tmp_path, "in.fa", FASTA.encode(), Columns())
    expected = [tokens_of(fasta), [(r.name, r.bases) for r in read_records(fasta)]]
    other = prepared(tmp_path, name, content, columns, chunk)
    assert [tokens_of(other), [(r.name, r.bases) for r in read_records(other)]] == expected
    assert not list(tmp_path.glob("*aside*")) + list(tmp_path.glob("*copy*"))


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ({"seq": [f"ACGT{n:0996}" for n in range(400)]}, 16),
        ({"of": [{"a": 1, "b": 2}] * 400, "seq": [f"ACGT{n:0996}" for n in range(400)]}, 16),
        ({"seq": ["ACGT" * 250] * 400}, 256),
    ],
)
def test_a_batch_of_parquet_is_of_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: dict[str, Any], rows: int
) -> None:
    """Also where other columns stand before, or a value that comes often is stored once."""
    plain = {"use_dictionary": len(set(columns["seq"])) == 1}
    (tmp_path / "x.parquet").write_bytes(parquet(columns, **plain))
    seen = []

    def noted(batch: Any, chosen: list[str]) -> Iterator[Record]:
        seen.append(batch.num_rows)
        return of_batch(batch, chosen)

    of_batch = tables._records
    monkeypatch.setattr(tables, "_records", noted)
    with open_source(str(tmp_path / "x.parquet")) as source:
        for _ in tables.table_pieces(source, 1 << 14, Columns("seq"), ""):
            pass
    assert sum(seen) == 400
    assert max(seen) <= rows


def test_letters_of_a_dictionary_are_not_made_once_more_for_each_row() -> None:
    once = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1000), ["ACGT" * 2500])
    batch = pyarrow.record_batch({"seq": once})
    before = pyarrow.total_allocated_bytes()
    found = tables._records(batch, ["seq", ""])
    assert next(found).content == b"ACGT" * 2500
    assert pyarrow.total_allocated_bytes() - before < 1 << 20


def test_what_is_behind_a_stream_is_not_left_out(tmp_path: Path) -> None:
    """Nor read: it may be anything."""
    content = arrow_stream(COLUMNS)
    with pytest.raises(UserError, match=r"x\.arrow goes on behind its end mark"):
        prepared(tmp_path, "x.arrow", content + content, TABLE)


def test_a_full_disk_is_no_damage(tmp_path: Path) -> None:
    """A copy that has no room says nothing of the file, which no --skip-bad leaves out."""
    (tmp_path / "y.arrow.gz").write_bytes(gzip.compress(arrow_file(COLUMNS)))
    inputs = expand([str(tmp_path / "y.arrow.gz")])
    with room_for(500), pytest.raises(FullDisk, match="no space left"):
        prepare(inputs, str(tmp_path / "out"), Settings(columns=TABLE, skip_bad=True), True, quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["y.arrow.gz"]


def test_text_of_a_table_stays_text(tmp_path: Path) -> None:
    content = parquet({"text": ["naïve >x\n", None, "GATTACA" * 99]})
    prefix, manifest = make(tmp_path, content, name="x.parquet", tokenizer="byte", chunk=64)
    assert texts(prefix) == ["naïve >x\n", "GATTACA" * 99]
    assert manifest.counts["empty_records"] == 1


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns(), r"2 columns hold strings \(name, seq\): say which with --column"),
        (Columns("Seq"), "--column Seq: no such column: there are name, n, seq"),
        (Columns("n"), "--column n holds no strings"),
        (Columns("seq", "id"), "--name-column id: no such column"),
    ],
)
def test_columns_are_named_or_the_only_one(tmp_path: Path, columns: Columns, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, "x.parquet", parquet(COLUMNS), columns)
    only = {"n": [1, 2], "dna": ["ACGT", "GG"]}
    prefix, _ = make(tmp_path, parquet(only), name="y.parquet")
    assert texts(prefix) == ["ACGT", "GG"]


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("x.2bit", twobit([(str(n), "ACGT" * 25) for n in range(8)]), Columns()),
        ("x.parquet", parquet({"seq": ["ACGT" * 25] * 8}, row_group_size=1), Columns()),
    ],
)
def test_the_way_reported_is_of_the_records_that_came(
    tmp_path: Path, name: str, content: bytes, columns: Columns
) -> None:
    """Not of the file, which is read whole at first: eight like records are an eighth each, and
    each longer than a piece comes in several."""
    (tmp_path / name).write_bytes(content)
    seen: list[int] = []
    settings = Settings(chunk_bytes=64, columns=columns)
    prepare(expand([str(tmp_path / name)]), str(tmp_path / "out"), settings, True, seen.append)
    assert seen == sorted(seen)
    assert seen[0] <= len(content) / 8
    ends = [len(content) * eighth / 8 for eighth in range(1, 8)]
    assert all(min(abs(one - end) for one in seen) <= 1 for end in ends)
