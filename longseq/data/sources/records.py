"""A chunk → its records, by libraries that know the formats: dnaio, Biopython, json."""

import io
import json
from collections.abc import Iterator

from longseq.data.sources.chunks import Chunk
from longseq.errors import UserError

JSON_KEYS = ("text", "sequence")
ASCII = bytes(range(128)) + b"?" * 128


def records(chunk: Chunk) -> Iterator[tuple[str, bytes]]:
    """Name and content of each record; UserError names file and record."""
    if chunk.kind in ("fasta", "fastq"):
        return _sequences(chunk)
    if chunk.kind == "genbank":
        return _genbank(chunk)
    if chunk.kind == "jsonl":
        return _json_lines(chunk)
    return _lines(chunk)


def _sequences(chunk: Chunk) -> Iterator[tuple[str, bytes]]:
    import dnaio

    raw = (
        chunk.raw if chunk.raw.isascii() else chunk.raw.translate(ASCII)
    )  # names in other encodings
    try:
        with dnaio.open(io.BytesIO(raw), fileformat=chunk.kind) as reader:
            for record in reader:
                yield record.name, record.sequence.encode("ascii")
    except (dnaio.FileFormatError, dnaio.UnknownFileFormat) as error:
        raise UserError(f"{chunk.path} is not {chunk.kind.upper()}: {error}") from None


def _genbank(chunk: Chunk) -> Iterator[tuple[str, bytes]]:
    from Bio.SeqIO.InsdcIO import GenBankIterator

    try:
        for record in GenBankIterator(io.StringIO(chunk.raw.decode("latin-1"))):
            yield record.id, bytes(record.seq)
    except Exception as error:
        raise UserError(
            f"{chunk.path} is not GenBank, or has no sequence in it ({error})"
        ) from None


def _json_lines(chunk: Chunk) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(chunk.raw.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            texts = [value[key] for key in JSON_KEYS if key in value]
        except (ValueError, TypeError) as error:
            raise UserError(f"{chunk.path} is not JSON lines ({error}): {line[:60]!r}") from None
        if len(texts) != 1 or not isinstance(texts[0], str):
            raise UserError(
                f"{chunk.path}: a line without one string named text or sequence: {line[:60]!r}"
            )
        yield str(value.get("id", f"line {number}")), texts[0].encode("utf-8")


def _lines(chunk: Chunk) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(chunk.raw.splitlines(), 1):
        yield f"line {number}", line
