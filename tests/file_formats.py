"""Files of the field's formats, written by libraries or by their published rules."""

from __future__ import annotations

import io
import struct
from itertools import groupby
from typing import Any

import pyarrow
import pyarrow.parquet

Records = list[tuple[str, str]]


def twobit(records: Records) -> bytes:
    """UCSC's format, from its description: T C A G as 0 1 2 3, stretches of N and of lower case."""
    head = struct.pack("<4I", 0x1A412743, 0, len(records), 0)
    at = len(head) + sum(1 + len(name) + 4 for name, _ in records)
    index = body = b""
    for name, letters in records:
        index += bytes([len(name)]) + name.encode() + struct.pack("<I", at + len(body))
        stretches = [_runs([letter in "Nn" for letter in letters])]
        stretches.append(_runs([letter.islower() for letter in letters]))
        body += struct.pack("<I", len(letters))
        for runs in stretches:
            numbers = [start for start, _ in runs] + [length for _, length in runs]
            body += struct.pack(f"<{1 + len(numbers)}I", len(runs), *numbers)
        bits = "".join(f"{'TCAGN'.index(letter) % 4:02b}" for letter in letters.upper())
        bits += "0" * (-len(bits) % 8)
        body += struct.pack("<I", 0)
        body += bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))
    return head + index + body


def _runs(flags: list[bool]) -> list[tuple[int, int]]:
    """Start and length of each run of True."""
    runs, at = [], 0
    for flag, run in groupby(flags):
        length = len(list(run))
        if flag:
            runs.append((at, length))
        at += length
    return runs


def zstandard(content: bytes) -> bytes:
    from backports import zstd

    return bytes(zstd.compress(content))


def table(columns: dict[str, Any]) -> pyarrow.Table:
    return pyarrow.table(columns)


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table(columns), sink, **options)
    return sink.getvalue()


def arrow_stream(columns: dict[str, Any]) -> bytes:
    """As Hugging Face's datasets write their cache."""
    return _ipc(pyarrow.ipc.new_stream, columns)


def arrow_file(columns: dict[str, Any]) -> bytes:
    return _ipc(pyarrow.ipc.new_file, columns)


def _ipc(opened: Any, columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    with opened(sink, table(columns).schema) as writer:
        writer.write_table(table(columns), max_chunksize=2)
    return sink.getvalue()


def flat_file(kind: str, records: Records) -> bytes:
    """kind: "genbank" or "embl"."""
    from Bio import SeqIO
    from Bio.Seq import Seq
    from Bio.SeqRecord import SeqRecord

    sink = io.StringIO()
    made = [
        SeqRecord(Seq(letters), id=name, annotations={"molecule_type": "DNA"})
        for name, letters in records
    ]
    SeqIO.write(made, sink, kind)
    return sink.getvalue().encode()
