"""Any file that is a sequence is read as what it is; anything else is refused by its name."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_helpers import make, texts
from hypothesis import example, given, settings
from hypothesis import strategies as st

from longseq.data.indexed.record_table import read_records
from longseq.data.prepare.job import prepare, quiet
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.settings import Settings
from longseq.data.sources import inputs
from longseq.data.sources.formats import recognise
from longseq.data.sources.inputs import expand
from longseq.errors import UserError
from tests.file_formats import zstandard

GENBANK = """LOCUS       TEST                      12 bp    DNA     linear   PHG 01-JAN-2000
DEFINITION  test.
ACCESSION   TEST
VERSION     TEST.1
ORIGIN
        1 acgtacgtac gn
//
"""


@settings(max_examples=300)
@given(st.binary(max_size=300), st.sampled_from([b"", b">", b">a\n", b"@r\nAC\n", b"LOCUS "]))
@example(b"@", b"")
def test_garbage_never_crashes(garbage: bytes, start: bytes) -> None:
    """Either the file is refused in a sentence, or every letter is accounted for."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            prefix, manifest = make(Path(folder), start + garbage, chunk=64, name="x.fa")
        except UserError as error:
            refusal = str(error)
        else:
            assert sum(map(len, texts(prefix))) == manifest.counts["bases"]
            return
        assert "x.fa" in refusal
        assert not Path(folder, "out.idx").exists()


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("x.fa.gz", gzip.compress),
        ("x.fa.bz2", bz2.compress),
        ("x.fa.xz", lzma.compress),
        ("gzip without a suffix", gzip.compress),
    ],
)
def test_compressed(tmp_path: Path, name: str, pack) -> None:  # type: ignore[no-untyped-def]
    prefix, _ = make(tmp_path, pack(b">a\nACGT\n>b\nGG\n"), name=name)
    assert texts(prefix) == ["ACGT", "GG"]


def skipped_before(frame: bytes) -> bytes:
    """As pzstd writes them: a frame to be skipped says how long the next one is."""
    return struct.pack("<III", 0x184D2A50, 4, len(frame)) + frame


SEVERAL = [  # streams behind each other, as these programs write and take them
    ("x.fa.zst", b"".join(skipped_before(zstandard(part)) for part in (b">a\nAC", b"GT\n"))),
    ("x.fa.xz", lzma.compress(b">a\nAC") + bytes(12) + lzma.compress(b"GT\n") + bytes(1 << 21)),
    ("x.fa.bz2", bz2.compress(b">a\nAC") + bz2.compress(b"") + bz2.compress(b"GT\n")),
    ("x.fa.gz", gzip.compress(b">a\nAC") + gzip.compress(b"GT\n")),
]


@pytest.mark.parametrize(("name", "content"), SEVERAL, ids=[name for name, _ in SEVERAL])
def test_streams_behind_each_other(tmp_path: Path, name: str, content: bytes) -> None:
    """All of them are read, and nothing that follows them is left out without a word."""
    prefix, _ = make(tmp_path, content, name=name)
    assert texts(prefix) == ["ACGT"]
    with pytest.raises(UserError, match=f"{name} is damaged or cut off"):
        make(tmp_path, content + b">b\nACGT\n", name=name)


class Drops(io.BytesIO):
    """A pipe into which a byte is written at a time."""

    def readinto(self, buffer: Any) -> int:
        return super().readinto(memoryview(buffer)[:1])


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard])
@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"\n>c1\r\nACGT\n", "fasta"), (GENBANK.encode(), "genbank"), (b"\n\n@r\n", "fastq")],
)
def test_a_format_is_told_by_more_than_the_first_byte_that_comes(
    content: bytes, kind: str, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a writer that makes a pause, or of the first of several streams."""
    drops = b"".join(pack(content[place : place + 1]) for place in range(len(content)))
    monkeypatch.setattr(inputs, "_open", lambda _: Drops(drops))
    with inputs.open_source("-", text_tokens=True) as source:
        assert source.kind == kind
        assert source.read(1 << 20) == content
        assert source.read(1) == b""
        assert source.facts()["bytes"] == len(drops)


def test_zstandard(tmp_path: Path) -> None:
    zstd = pytest.importorskip("backports.zstd")
    prefix, _ = make(tmp_path, zstd.compress(b">a\nACGT\n"), name="x.fna.zst")
    assert texts(prefix) == ["ACGT"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.fq", "@r\nACGT\n+\nIIII\n@s\nGG\n+\n@I\n", ["ACGT", "GG"]),
        ("aligned.fq", "@CO\tx\nACGT\n+\nIIII\n", ["ACGT"]),  # no SAM
        ("sample.fq", "@HD\tsample 7: lane 2\nACGT\n+\nIIII\n", ["ACGT"]),
        ("blank.fq", "@r\nACGT\n+\nIIII\n\n\n", ["ACGT"]),
        ("before.fq", "\n\r\n@r\nACGT\n+\nIIII\n", ["ACGT"]),
        ("four.fq", "@r\nACGT\n+\nIIII" + 4 * "\n", ["ACGT"]),
        ("many.fq", "@r\nACGT\n+\nIIII\n" + (9 << 20) * "\n", ["ACGT"]),
        ("windows.fq", "@r\r\nACGT\r\n+\r\nIIII\r\n\r\n", ["ACGT"]),
        ("nothing.fq", "@r\nACGT\n+\nIIII\n@s\n\n+\n\n", ["ACGT"]),
        ("x.gbk", GENBANK + GENBANK, ["ACGTACGTACGN"] * 2),
        ("x.txt", "ACGT\n\nGG\n", ["ACGT", "GG"]),
        ("x.jsonl", '{"text": "ACGT", "id": 1}\n{"sequence": "GG"}\n', ["ACGT", "GG"]),
        ("windows.fa", ">a\r\nAC\r\nGT\r\n>b\r\nGG\r\n", ["ACGT", "GG"]),
        ("twins.fa", ">a\nACGT\n>a\nGG\n", ["ACGT", "GG"]),
        ("gaps.fa", ">a\nAC--G.T\n>b\nG G\n", ["ACGT", "GG"]),
        ("blank.fa", "\n\n>a\n\nACGT\n\n>b\nGG", ["ACGT", "GG"]),
    ],
)
def test_formats(tmp_path: Path, name: str, content: str, expected: list[str]) -> None:
    prefix, _ = make(tmp_path, content, name=name)
    assert texts(prefix) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.fa", b"", "is empty"),
        ("plain.fa", b"ACGT\n", "is not FASTA"),
        ("binary.fa", bytes(range(256)) * 4, "is not FASTA"),
        ("cut.fa.gz", gzip.compress(b">a\n" + b"ACGT" * 9999)[:-20], "damaged or cut off"),
        ("flip.fa.gz", gzip.compress(b">a\nACGT\n")[:-6] + b"xxxxxx", "damaged or cut off"),
        ("mac.fa", b">a\rACGT\r", "line ends of old Macintoshes"),
        ("header.fa", b">" + b"x" * 5000, "header line"),
        ("only.fa", b">a\n>b\n", "no sequence in it"),
        ("cut.fq", b"@r\nACGT\n+\nII\n", "is not FASTQ"),
        ("cut2.fq", b"@r\nACGT\n+\n\n\n\n", "is not FASTQ"),
        ("inner.fq", b"@r\nAC\n+\nII\n\n@s\nAC\n+\nII\n", "is not FASTQ behind the read r .Line"),
        ("x.sam", b"@HD\tVN:1.6\n", "is SAM, BAM or CRAM, which are not read: make FASTQ of it"),
        ("y.sam", b"@SQ\tSN:chr1\tLN:9\n", "is SAM, BAM or CRAM"),
        ("x.cram", b"CRAM\3\0", "is SAM, BAM or CRAM"),
        ("more.fa.xz", lzma.compress(b">a\nACGT\n") + b"\n", "other bytes follow the end of a"),
        ("more.fa.bz2", bz2.compress(b">a\nACGT\n") + b"\n", "other bytes follow the end of a"),
        ("x.bam", gzip.compress(b"BAM\1\0"), "is SAM, BAM or CRAM"),
        ("x.jsonl", b'{"text": 3}\n', "one string named text"),
        ("y.jsonl", b"{[\n", "JSON"),
        ("deep.jsonl", b'{"text": ' + b"[" * 200_000 + b"\n", "is not JSON lines"),
        (
            "half.jsonl",
            b'{"text": "A"}\n{"text": "x \\ud83d"}\n',
            r"'\\ud83d' alone, half of a letter",
        ),
        ("x.gbk", GENBANK.split("ORIGIN")[0].encode() + b"//\n", "GenBank"),
    ],
)
def test_refused_inputs(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make(tmp_path, content, name=name, chunk=1024)
    assert name in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_name_says_text_before_a_mark_does() -> None:
    assert recognise("x.txt", b"@HD\tVN:1.6\n", True) == "text"


def test_inputs_as_folder_list_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "linked").mkdir()
    for name in ("d/b.fa", "d/a.fna.gz", "d/notes.txt", "linked/c.fa", "e.fa"):
        (tmp_path / name).write_text("x")
    (tmp_path / "d" / "more").symlink_to(tmp_path / "linked")
    (tmp_path / "linked" / "back").symlink_to(tmp_path / "d")  # a circle
    listed = tmp_path / "files"
    listed.write_text("e.fa\n\nd\n")  # relative to the list, wherever one stands
    found = expand([f"@{listed}"])
    assert [Path(path).name for path in found.paths] == ["e.fa", "a.fna.gz", "b.fa", "c.fa"]
    assert [Path(path).name for path in found.skipped] == ["notes.txt"]
    for wrong, message in (
        ([str(tmp_path / "none")], "no such file"),
        ([str(tmp_path / "e.fa"), f"@{listed}"], "is named twice"),
        ([f"@{tmp_path}/none"], "cannot be read as a list"),
    ):
        with pytest.raises(UserError, match=message):
            expand(wrong)
    listed.write_text("gone.fa\n")
    with pytest.raises(UserError, match=r"gone\.fa: no such file: names in a list are relative"):
        expand([f"@{listed}"])
    listed.write_text("\n")
    with pytest.raises(UserError, match=r"files names no file: write one name a line"):
        expand([f"@{listed}"])
    (tmp_path / "f").mkdir()
    with pytest.raises(UserError, match="no sequence file"):
        expand([str(tmp_path / "f")])


def test_escape_sequences_reach_neither_terminal_nor_table(tmp_path: Path) -> None:
    prefix, _ = make(tmp_path, b">a\x1b[2J\tb\nACGT\n>c\nGG\n")
    assert [record.name for record in read_records(prefix)] == ["a?[2J b", "c"]
    with pytest.raises(UserError) as caught:
        make(tmp_path, b">a\x1b[2J\nAC!\n")
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("name", ["x.fa", "x.fa.gz", "x", "x.jsonl"])
def test_a_byte_order_mark_is_no_letter(tmp_path: Path, name: str) -> None:
    """As editors of Windows write it, before any format."""
    plain = b'{"sequence": "ACGTN"}\n' if name.endswith("jsonl") else b">bom\r\nACGTN\r\n"
    content = codecs.BOM_UTF8 + plain
    prefix, manifest = make(
        tmp_path, gzip.compress(content) if name.endswith("gz") else content, name=name
    )
    assert texts(prefix) == ["ACGTN"]
    assert manifest.sources[0]["bytes"] == (tmp_path / name).stat().st_size
    with pytest.raises(UserError, match="is empty: leave it out"):
        make(tmp_path, codecs.BOM_UTF8, name="x.fa")


def test_lists_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "e.fa").write_text("x")
    (tmp_path / "files").write_bytes(codecs.BOM_UTF8 + b"e.fa\r\n")
    assert [Path(path).name for path in expand([f"@{tmp_path}/files"]).paths] == ["e.fa"]


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_file_named_twice_is_named_in_the_order_of_the_list(tmp_path: Path, link: Any) -> None:
    (tmp_path / "e.fa").write_text("x")
    link(tmp_path / "link.fa", tmp_path / "e.fa")
    (tmp_path / "files").write_text("e.fa\nlink.fa\n")
    said = rf"^{tmp_path}/e\.fa is named twice \(the second time as {tmp_path}/link\.fa\): name"
    with pytest.raises(UserError, match=said):
        expand([f"@{tmp_path}/files"])


def test_a_file_of_this_machine_is_one_whatever_it_is_called(tmp_path: Path) -> None:
    path = f"{tmp_path}/e.fa"
    Path(path).write_text("x")
    assert expand([f"file://{path}"]).files == [path]
    assert expand([f"file://{tmp_path}/*.fa"]).files == [path]
    for url in (f"file://{path}", f"local://{path}"):
        with pytest.raises(UserError, match=r"e\.fa is named twice: name it once"):
            expand([url, path])
    assert expand([f"file://{tmp_path}"]).files == [path]
    with pytest.raises(UserError, match=r"/gone\.fa: no such file or folder"):
        expand([f"file://{tmp_path}/gone.fa"])


@pytest.mark.parametrize("name", ["pipe.fa", "-"])
@pytest.mark.parametrize("flags", [{"drop_duplicates": "exact"}, {"train_tokenizer": "bpe:40"}])
def test_what_cannot_be_read_twice_is_refused(
    tmp_path: Path, name: str, flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second reading of a pipe would wait for ever, or find nothing."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.fa")
    Path("x.fa").write_text(">a\nACGT\n")
    Path("list").write_text(f"x.fa\n{name}\n")
    with pytest.raises(UserError, match=rf"^{name} is no file, and --drop-duplicates, .* twice"):
        prepare(expand(["@list"]), "out", Settings(Recipe(), **flags), True, quiet)
    assert sorted(os.listdir()) == ["list", "pipe.fa", "x.fa"]
