"""A chunk → its records: FASTA split at its headers, the rest by libraries that know the formats.

FASTA is not read by a library: after the cut between records (chunks.py) what is left is one search
for each header, three times as fast as the fastest library that reads from memory.
"""

import io
import json
import re
from collections.abc import Iterator

from longseq.data.sources.flat_files import flat_records
from longseq.data.sources.names import header_name, printable
from longseq.data.sources.pieces import Chunk, Parsed, Record
from longseq.errors import UserError

NEWLINE = ord("\n")
JSON_KEYS = ("text", "sequence")
ASCII = bytes(range(128)) + b"?" * 128


def records(chunk: Chunk | Parsed, features: tuple[str, ...] = ()) -> Iterator[Record]:
    """The records of a piece; UserError names file and record.

    features: which are wanted of files that hold annotation.
    """
    if isinstance(chunk, Parsed):
        return iter(chunk.records)
    if chunk.kind == "fasta":
        return _fasta(chunk)
    if chunk.kind == "fastq":
        return _fastq(chunk)
    if chunk.kind in ("genbank", "embl"):
        return flat_records(chunk, features)
    if chunk.kind == "jsonl":
        return _json_lines(chunk)
    return _lines(chunk)


def _fasta(chunk: Chunk) -> Iterator[Record]:
    """The sequence with its line ends: who takes the letters drops them anyway."""
    raw = chunk.raw
    at = len(raw) - len(raw.lstrip())
    if not raw.startswith(b">", at):
        raise UserError(f"{chunk.path} is not FASTA: a record does not start with >")
    while at < len(raw):
        line = raw.find(b"\n", at)
        line = len(raw) if line < 0 else line
        end = next_header(raw, line)
        yield Record(header_name(raw[at:line]), raw[line + 1 : end])
        at = end


def next_header(raw: bytes, at: int) -> int:
    """The place of the next > that starts a line, or the end. One letter is found much faster than
    a line end and a letter are.
    """
    at = raw.find(b">", at)
    while at > 0 and raw[at - 1] != NEWLINE:
        at = raw.find(b">", at + 1)
    return len(raw) if at < 0 else at


def _fastq(chunk: Chunk) -> Iterator[Record]:
    import dnaio

    raw = chunk.raw if chunk.raw.isascii() else chunk.raw.translate(ASCII)  # names in Latin-1
    name = ""
    try:
        with dnaio.open(io.BytesIO(raw), fileformat=chunk.kind) as reader:
            for record in reader:
                name = printable(record.name)
                yield Record(name, record.sequence.encode("ascii"))
    except (dnaio.FileFormatError, dnaio.UnknownFileFormat) as error:
        behind = f" behind the read {name}" if name else ""
        # its line is counted from the first of this piece
        problem = printable(re.sub(r"^Error in FASTQ file at line \d+: ", "", str(error)))
        raise UserError(
            f"{chunk.path} is not FASTQ{behind} ({problem}): mend it, or fetch it again"
        ) from None


def _json_lines(chunk: Chunk) -> Iterator[Record]:
    for line in chunk.raw.split(b"\n"):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            texts = [value[key] for key in JSON_KEYS if key in value]
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(f"{chunk.path} is not JSON lines ({error}): {line[:60]!r}") from None
        if len(texts) != 1 or not isinstance(texts[0], str):
            raise UserError(
                f"{chunk.path}: a line without one string named text or sequence: {line[:60]!r}"
            )
        try:
            content = texts[0].encode("utf-8")
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            raise UserError(
                f"{chunk.path}: a text holds {half} alone, half of a letter: {line[:60]!r}"
            ) from None
        name = value.get("id")
        yield Record("" if name is None else printable(str(name)), content)


def _lines(chunk: Chunk) -> Iterator[Record]:
    for line in chunk.raw.removesuffix(b"\n").split(b"\n"):
        yield Record("", line.removesuffix(b"\r"))
