"""Each format cut off, with something else under its name, and empty: one line, and exit code 2."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from longseq.__main__ import run_verb
from longseq.data.sources.inputs import open_source
from longseq.errors import UserError
from tests.file_formats import arrow_file, arrow_stream, flat_file, parquet, twobit, zstandard

RNG = np.random.default_rng(11)
RECORDS = [(f"r{number}", "".join(RNG.choice(list("ACGT"), 700))) for number in range(4)]
LETTERS = [letters for _, letters in RECORDS]
COLUMNS = {"length": [len(letters) for letters in LETTERS], "seq": LETTERS}
FASTA = "".join(f">{name}\n{letters}\n" for name, letters in RECORDS).encode()
FASTQ = "".join(f"@{name}\n{letters}\n+\n{letters}\n" for name, letters in RECORDS).encode()
JSONL = "".join(json.dumps({"text": letters}) + "\n" for _, letters in RECORDS).encode()
# FASTA and lines of text end anywhere, unless compressed.
GOOD: dict[str, bytes] = {
    "x.fa.gz": gzip.compress(FASTA),
    "x.fa.bz2": bz2.compress(FASTA),
    "x.fa.xz": lzma.compress(FASTA),
    "x.fa.zst": zstandard(FASTA),
    "x.fq": FASTQ,
    "x.jsonl": JSONL,
    "x.gbk": flat_file("genbank", RECORDS),
    "x.embl": flat_file("embl", RECORDS),
    "x.2bit": twobit(RECORDS),
    "x.parquet": parquet(COLUMNS),
    "x.arrow": arrow_file(COLUMNS),
    "stream.arrow": arrow_stream(COLUMNS),
}


def prepare(folder: Path, name: str, content: bytes) -> int:
    (folder / name).write_bytes(content)
    words = ["prepare", str(folder / name), "--output", str(folder / "out"), "--overwrite"]
    return run_verb(words)


@pytest.mark.parametrize("name", GOOD)
def test_whole_it_is_good_and_else_refused_in_one_line(tmp_path: Path, name: str) -> None:
    content = GOOD[name]
    assert prepare(tmp_path, name, content) == 0
    assert (tmp_path / "out.bin").stat().st_size == 4 * 701
    size = len(content)
    bad = {
        "cut in its head": content[: min(40, size // 2)],
        "cut in its middle": content[: size // 2 - 7],
        "cut at its end": content[: size - (3 if size > 3000 else 5)],
        "of another kind": RNG.bytes(4000),
        "its mark and then noise": content[:16] + RNG.bytes(4000),
        "empty": b"",
    }
    for what, damaged in bad.items():
        with pytest.raises(UserError) as caught:
            prepare(tmp_path, name, damaged)
        line = str(caught.value)
        assert name in line, what
        assert line.isprintable(), (what, line)
        assert len(line) < 400, (what, line)


def bgzip(folder: Path) -> tuple[bytes, int, int]:
    """FASTA as bgzip's blocks, and where the second begins, and its end mark."""
    from Bio.bgzf import BgzfWriter

    with BgzfWriter(str(folder / "blocks")) as file:
        for start in range(0, len(FASTA), 1000):
            file.write(FASTA[start : start + 1000])
            file.flush()
    content = (folder / "blocks").read_bytes()
    return content, content.index(content[:4], 4), content.rindex(content[:4])


def test_bgzip_is_whole_with_its_end_mark(tmp_path: Path) -> None:
    """Its blocks are streams, of which a gzip file may have any number."""
    content, second, mark = bgzip(tmp_path)
    plain = gzip.compress(b">r4\n" + b"ACGT" * 100 + b"\n")
    for cut in (content[:second], content[:mark], plain + content[:mark]):
        for padding in (0, 3, 9, 1 << 17):
            with pytest.raises(UserError, match=r"x\.gz is damaged or cut off \(bgzip's end mark"):
                prepare(tmp_path, "x.gz", cut + bytes(padding))


def test_bgzip_is_read_as_gzip_reads_it(tmp_path: Path) -> None:
    """Other streams and zeros may follow it."""
    content, _, mark = bgzip(tmp_path)
    plain = gzip.compress(b">r4\n" + b"ACGT" * 100 + b"\n")
    for whole in (content, content + plain, plain + content, content[:mark] + plain, content * 2):
        for padding in (0, 1, 512, 1 << 17):
            (tmp_path / "x.gz").write_bytes(whole + bytes(padding))
            with open_source(str(tmp_path / "x.gz")) as source:
                assert source.read(1 << 20) == gzip.decompress(whole)


@pytest.mark.parametrize(
    ("kind", "unit", "line"), [("genbank", b"bp", "first"), ("embl", b"BP", "SQ")]
)
@pytest.mark.parametrize("said", [b"900", b"500"])
def test_a_record_that_is_not_as_long_as_it_says_is_not_whole(
    tmp_path: Path, kind: str, unit: bytes, line: str, said: bytes
) -> None:
    """Its end may have been lost, wherever its places are counted."""
    content = flat_file(kind, RECORDS[:2]).replace(b" 700 " + unit, b" " + said + b" " + unit)
    with pytest.raises(UserError) as caught:
        prepare(tmp_path, "x.gbk", content)
    assert str(caught.value) == (
        f"{tmp_path}/x.gbk: a record is not as long as its {line} line says (Expected sequence"
        f" length {said.decode()}, found 700 (r0)): fetch it again, or mend that line"
    )


FASTA_OF_IT = "which is not read: give it as FASTA, which UCSC's twoBitToFa makes of it"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            struct.pack(">4I", 0x1A412743, 0, 1, 0),
            f"is .2bit of big-endian machines, {FASTA_OF_IT}",
        ),
        (struct.pack("<4I", 0x1A412743, 2, 1, 0), f"is .2bit of version 2, {FASTA_OF_IT}"),
        (twobit([]), "has no record: leave it out"),
        (
            struct.pack("<4IcQ", 0x1A412743, 1, 1, 0, b"\0", 2**63 - 1),
            "is damaged or cut off: fetch it again",
        ),
        (
            twobit([("r", "ACGT" * 99 + "NN")]).replace(b"\2\0\0\0", b"\3\0\0\0"),
            "is damaged or cut off: fetch it again",
        ),
    ],
)
def test_a_2bit_that_is_not_read_is_refused_by_us_alone(
    tmp_path: Path, content: bytes, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """In one line, which says what is wrong."""
    with pytest.raises(UserError) as caught:
        prepare(tmp_path, "x.2bit", content)
    assert str(caught.value) == f"{tmp_path}/x.2bit {said}"
    assert capfd.readouterr() == ("", "")


def test_the_exit_code_is_2(tmp_path: Path) -> None:
    (tmp_path / "x.2bit").write_bytes(GOOD["x.2bit"][:-100])
    words = ["prepare", f"{tmp_path}/x.2bit", "--output", f"{tmp_path}/out"]
    ended = subprocess.run(
        [sys.executable, "-m", "longseq", *words], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "x.2bit is damaged or cut off" in ended.stderr
