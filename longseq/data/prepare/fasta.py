"""FASTA → tokens, a chunk at once: the usual case, for which speed was measured.

Letters of all records are translated in one go, with a mark after each that becomes the end token.
What is not usual (a letter that is no nucleotide, an empty record) gives None: the general way
(encode.py) says what is wrong, or counts it.
"""

from dataclasses import dataclass

import numpy as np

from longseq.data.indexed.format import Ints, Tokens
from longseq.data.indexed.growing import Raw
from longseq.data.sources.names import printable
from longseq.data.sources.pieces import Chunk
from longseq.data.sources.records import NEWLINE
from longseq.data.tokenizers.base import SequenceTokenizer
from longseq.data.tokenizers.letters import GAPS, INVALID, LAYOUT, LETTERS, count_gaps

MARK = b"\x01"
END = len(LETTERS)  # the code that a mark becomes; of nucleotides it is the end token


@dataclass(frozen=True)
class Usual:
    """One chunk's tokens [n], with the letters and the name of each record; trailing: letters after
    the last whole token.
    """

    tokens: Tokens
    sizes: Ints
    names: list[str]
    gaps: int
    trailing: int
    lower_case: int


def marked(table: bytes) -> bytes:
    """A table of codes in which the mark between records has one as well."""
    return table[: MARK[0]] + bytes([END]) + table[MARK[0] + 1 :]


def usual_fasta(chunk: Chunk, table: bytes, tokenizer: SequenceTokenizer) -> Usual | None:
    """table: of `marked`. None: this chunk needs the general way."""
    raw = chunk.raw
    if not raw.startswith(b">") or MARK in raw:
        return None
    whole = memoryview(raw)
    headers: list[bytes] = []
    bodies: list[Raw] = []
    at = 0
    while at < len(raw):
        line = raw.find(b"\n", at)
        if line < 0:
            return None
        stop = raw.find(b">", line)
        if stop < 0:
            stop = len(raw)
        elif raw[stop - 1] != NEWLINE:
            return None
        headers.append(raw[at + 1 : line])
        bodies.append(whole[line + 1 : stop])
        at = stop
    bodies.append(b"")
    letters = MARK.join(bodies)
    raw_codes = letters.translate(table, LAYOUT + GAPS)
    if INVALID in raw_codes:
        return None
    codes = np.frombuffer(raw_codes, np.uint8)
    ends = np.flatnonzero(codes == END)
    sizes = ends.copy()
    sizes[1:] -= ends[:-1] + 1
    if int(sizes.min()) < tokenizer.bases:
        return None
    tokens: Tokens = codes
    if tokenizer.end_of_document != END:
        tokens = tokenizer.encode_documents(raw_codes.split(bytes([END]))[:-1])
    trailing = int((sizes % tokenizer.bases).sum()) if tokenizer.bases > 1 else 0
    return Usual(
        tokens, sizes, _names(headers), count_gaps(letters), trailing, count_lower_case(letters)
    )


def count_lower_case(raw: bytes) -> int:
    """Letters in lower case among letters and line ends."""
    values = np.frombuffer(raw, np.uint8)
    if not len(values) or values.max() < ord("a"):  # a fifth of the time of counting
        return 0
    return int(np.count_nonzero(values >= ord("a")))


def _names(headers: list[bytes]) -> list[str]:
    """As header_name gives them, for all records at once."""
    text = b"\n".join(headers).decode("utf-8", "replace")
    names = [name.strip() for name in text.split("\n")]
    return names if "".join(names).isprintable() else [printable(name) for name in names]
