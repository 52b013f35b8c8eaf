"""The .bin/.idx pair: ours read by megatron-core, megatron-core's read by us, damage refused by
name.
"""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from longseq.data.datasets import Dataset, check_data
from longseq.data.indexed.format import IndexedTokens
from longseq.data.indexed.writer import IndexedWriter
from longseq.data.inspection import problems, read_all
from longseq.data.tokenizers.base import Tokenizer
from longseq.errors import UserError

DOCUMENTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 250]]

MEGATRON = """
import sys, numpy, torch
from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder
folder = sys.argv[1]
for name in ("uint8", "uint16", "int32"):
    data = IndexedDataset(f"{folder}/ours-{name}/tokens")
    print([data[i].tolist() for i in range(len(data))], data.document_indices.tolist())
for name in ("uint16", "int32", "int64"):
    builder = IndexedDatasetBuilder(f"{folder}/{name}.bin", dtype=getattr(numpy, name))
    for document in ([1, 2, 3], [4], [5, 6, 7, 8, 9, 250]):
        builder.add_document(torch.tensor(document), [len(document)])
    builder.add_item(torch.tensor([10, 11]))
    builder.add_item(torch.tensor([12]))
    builder.end_document()
    builder.finalize(f"{folder}/{name}.idx")
"""


def write(folder: Path, dtype: type[np.generic] = np.uint8) -> str:
    prefix = str(folder / "tokens")
    writer = IndexedWriter(prefix, dtype)
    for document in DOCUMENTS:
        writer.add(np.array(document))
        writer.end_document()
    writer.finish()
    return prefix


def test_megatron_core_reads_ours_and_we_read_its(tmp_path: Path) -> None:
    """In one process of its own, for its import takes seconds."""
    for name in ("uint8", "uint16", "int32"):
        (tmp_path / f"ours-{name}").mkdir()
        write(tmp_path / f"ours-{name}", getattr(np, name))
    command = [sys.executable, "-W", "ignore", "-c", MEGATRON, str(tmp_path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed.splitlines() == [f"{DOCUMENTS} [0, 1, 2, 3]"] * 3
    for name in ("uint16", "int32", "int64"):
        tokens = IndexedTokens(str(tmp_path / name))
        assert tokens.dtype == np.dtype(name)
        found = [tokens.document(i).tolist() for i in range(tokens.num_documents)]
        assert found == [*DOCUMENTS, [10, 11, 12]]  # the last in two sequences


def test_documents_in_bulk_and_in_pieces(tmp_path: Path) -> None:
    """add_documents goes on with the open document, and closes one only where one is open."""
    writer = IndexedWriter(str(tmp_path / "t"), np.uint8)
    writer.add_documents(np.array([1, 2, 9, 3, 9, 4]), np.array([3, 2]))
    writer.add_documents(np.array([5, 9, 6]), np.array([2]))
    writer.add_documents(np.array([7]), np.array([], dtype=np.int64))
    writer.close_document(9)
    writer.close_document(9)
    writer.finish()
    tokens = IndexedTokens(str(tmp_path / "t"))
    found = [tokens.document(i).tolist() for i in range(tokens.num_documents)]
    assert found == [[1, 2, 9], [3, 9], [4, 5, 9], [6, 7, 9]]


def test_read_of_a_part(tmp_path: Path) -> None:
    assert IndexedTokens(write(tmp_path)).read(2, 4).tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize(
    ("ending", "damage"),
    [
        ("bin", lambda raw: raw[:-1]),
        ("bin", lambda raw: raw + b"garbage"),
        ("bin", lambda _: b""),
        ("idx", lambda raw: raw[:-1]),
        ("idx", lambda raw: raw + b"x"),
        ("idx", lambda _: b""),
        ("idx", lambda raw: b"X" + raw[1:]),
        ("idx", lambda raw: raw[:17] + b"\x63" + raw[18:]),  # dtype
        ("idx", lambda raw: raw[:34] + b"\xff\xff\xff\xff" + raw[38:]),  # a length below 0
        ("idx", lambda raw: raw[:46] + b"\x01" + raw[47:]),  # an offset
        ("idx", lambda raw: raw[:-8] + b"\x09" + raw[-7:]),  # the last bound
    ],
)
def test_damage_is_refused_by_name(tmp_path: Path, ending: str, damage) -> None:  # type: ignore[no-untyped-def]
    path = Path(f"{write(tmp_path)}.{ending}")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=rf"tokens\.{'bin|idx' if ending == 'idx' else 'bin'}"):
        IndexedTokens(str(tmp_path / "tokens"))


@pytest.mark.parametrize(
    ("at", "raw", "said"),
    [
        (
            9,
            (1).to_bytes(8, "big"),
            "has its numbers in the other byte order (big-endian): prepare",
        ),
        (
            17,
            b"\6",
            "says that its tokens are float32 or float64 (dtype code 6), and they are whole",
        ),
        (17, b"\x09", "has version 1 and dtype code 9, and version 1 with one of 1, 2, 3, 4, 5, 8"),
    ],
)
def test_a_header_that_cannot_be_read_is_explained(
    tmp_path: Path, at: int, raw: bytes, said: str
) -> None:
    index = Path(write(tmp_path) + ".idx")
    content = index.read_bytes()
    index.write_bytes(content[:at] + raw + content[at + len(raw) :])
    with pytest.raises(UserError) as caught:
        IndexedTokens(str(tmp_path / "tokens"))
    assert f"{index} {said}" in str(caught.value)


def test_empty_documents_are_told_from_those_of_an_end_alone(tmp_path: Path) -> None:
    for name, documents, end in (
        ("open", [[1, 2], [], [], [3]], 256),
        ("closed", [[1, 9], [9]], 9),
    ):
        writer = IndexedWriter(str(tmp_path / name), np.uint16)
        for document in documents:
            writer.add(np.array(document, np.int64))
            writer.end_document()
        writer.finish()
        tokens = IndexedTokens(str(tmp_path / name))
        inner = SimpleNamespace(end_of_document=end, names=lambda: [], vocab_size=257)
        tokenizer = cast(Tokenizer, inner)
        dataset = Dataset(name, Fraction(1), tokens, tokenizer, None, name == "closed")
        lengths = np.diff(tokens.document_offsets)
        said = " ".join(problems(dataset, lengths, read_all(dataset)))
        assert ("2 documents without any token" in said) == (name == "open")
        assert ("1 document of an end alone" in said) == (name == "closed")


def test_missing_halves(tmp_path: Path) -> None:
    prefix = write(tmp_path)
    Path(f"{prefix}.bin").unlink()
    with pytest.raises(UserError, match=r"tokens\.bin"):
        IndexedTokens(prefix)
    with pytest.raises(UserError, match=r"none\.idx"):
        IndexedTokens(str(tmp_path / "none"))


def test_nothing_opens_before_finish(tmp_path: Path) -> None:
    writer = IndexedWriter(str(tmp_path / "t"), np.uint8)
    writer.add(np.array([1]))
    writer.end_document()
    writer.abandon()
    with pytest.raises(UserError):
        IndexedTokens(str(tmp_path / "t"))


def test_end_tokens_that_the_index_leaves_out(tmp_path: Path) -> None:
    """As Megatron's preprocess_data --append-eod writes it: lengths 2 and 3, tokens 3 and 4."""
    writer = IndexedWriter(str(tmp_path / "t"), np.uint8)
    for document in ([1, 2], [3, 4, 5]):
        writer.add(np.array(document))
        writer.end_document()
    writer.finish()
    (tmp_path / "t.bin").write_bytes(bytes([1, 2, 9, 3, 4, 5, 9]))
    tokens = IndexedTokens(str(tmp_path / "t"))
    assert tokens.unindexed_ends
    assert [tokens.document(i).tolist() for i in range(2)] == [[1, 2, 9], [3, 4, 5, 9]]
    with pytest.raises(UserError, match="longer than its"):
        check_data(str(tmp_path / "t"), "nucleotide")  # 9 is a letter there, not an end
