"""FASTA → nucleotide tokens, a chunk at once: the usual case, for which speed was measured.

Letters of all records are translated in one go, with a mark between them that becomes the end
token. What is not usual (a letter that is no nucleotide, an empty record) gives None: the general
way (encode.py) says what is wrong, or counts it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from longseq.data.sources.names import printable
from longseq.data.sources.pieces import Chunk
from longseq.data.sources.records import next_header
from longseq.data.tokenizers.alphabet import GAPS, INVALID, LAYOUT

MARK = b"\x01"


@dataclass(frozen=True)
class Usual:
    """One chunk's tokens, uint8 [n], with the length and the name of each record."""

    tokens: bytes
    lengths: npt.NDArray[np.int64]
    names: list[str]
    gaps: int


def marked(table: bytes, end: int) -> bytes:
    """A table of codes in which the mark between records is the end token."""
    return table[: MARK[0]] + bytes([end]) + table[MARK[0] + 1 :]


def usual_fasta(chunk: Chunk, table: bytes, end: int) -> Usual | None:
    """table: of `marked`. None: this chunk needs the general way."""
    raw = chunk.raw
    if not raw.startswith(b">") or MARK in raw:
        return None
    headers, bodies = [], []
    at = 0
    while at < len(raw):
        line = raw.find(b"\n", at)
        if line < 0:
            return None
        stop = next_header(raw, line)
        headers.append(raw[at + 1 : line])
        bodies.append(raw[line + 1 : stop])
        at = stop
    bodies.append(b"")
    letters = MARK.join(bodies)
    tokens = letters.translate(table, LAYOUT + GAPS)
    if INVALID in tokens:
        return None
    lengths = np.diff(np.flatnonzero(np.frombuffer(tokens, np.uint8) == end), prepend=-1)
    if int(lengths.min()) < 2:
        return None
    gaps = letters.count(b"-") + letters.count(b".") if b"-" in letters or b"." in letters else 0
    return Usual(tokens, lengths, _names(headers), gaps)


def _names(headers: list[bytes]) -> list[str]:
    """As header_name gives them, for all records at once."""
    text = b"\n".join(headers).decode("utf-8", "replace")
    names = [name.strip() for name in text.split("\n")]
    return names if "".join(names).isprintable() else [printable(name) for name in names]
