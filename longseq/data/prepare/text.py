"""Texts → tokens by a tokenizer of text, in pieces of bounded memory; unknown letters are counted.

    texts = Texts(tokenizer, recipe)
    texts.of("fasta", path, name, b"acgt\n-A")          # b"ACGTA", for every verb
    tokens, lengths = TextEncoder(tokenizer).documents(path, names, found)

A token never spans two pieces: PIECE letters, cut at the last blank where there is one. The pieces
are counted from the start of a text, so that they are the same for any number of workers.
"""

import mmap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from longseq.data.indexed.format import Ints, Tokens
from longseq.data.prepare.recipe import Recipe
from longseq.data.sources.names import called, printable
from longseq.data.sources.pieces import TEXTS
from longseq.data.tokenizers.alphabet import GAPS, LAYOUT, LETTER_TABLE, UPPER
from longseq.data.tokenizers.text import TextTokenizer
from longseq.errors import UserError

PIECE = 1 << 16  # a library's encoding takes a hundred bytes for each letter
BATCH = 1 << 18  # more does not fit into a core's cache
LONGEST = 4  # bytes of a character of UTF-8
SHOWN = 12


@dataclass(frozen=True)
class Unknown:
    """The first letters that the tokenizer has no token for, and where."""

    path: str
    record: str
    text: str


class Texts:
    """Records as a tokenizer of text sees them: text as it is; of sequences the letters, in upper
    case, without line ends, blanks and gaps.

    They are taken for nucleotides, which U and X are not, where tokenizer or recipe know no others:
    protein has all other letters as well.
    """

    def __init__(self, tokenizer: TextTokenizer, recipe: Recipe, remedy: str = "") -> None:
        self.recipe, self.remedy = recipe, remedy
        self.nucleotides = tokenizer.nucleotides or recipe.of_nucleotides
        self._table = recipe.code_table()

    def of(self, kind: str, path: str, name: str, raw: bytes, before: int = 0) -> bytes:
        """What is seen of a record, or of a part of it behind `before` letters; UserError for what
        is no nucleotide where it must be one.
        """
        if kind in TEXTS:
            return raw
        if not self.nucleotides:
            letters = raw.translate(UPPER, LAYOUT + GAPS)
            if not letters.isascii():
                place = before + next(at for at, byte in enumerate(letters) if byte > 127)
                raise UserError(
                    f"{called(path, name)}: letter {place + 1:,} is none of a sequence: mend the"
                    " record"
                )
            return letters
        codes = raw.translate(self._table, LAYOUT + GAPS)
        self.recipe.check(path, name, codes, before, self.remedy, raw)
        return codes.translate(LETTER_TABLE)


class TextEncoder:
    """One task's texts; counts: letters, and those of them that no token stands for."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer
        self.counts: Counter[str] = Counter()
        self.unknown: Unknown | None = None

    def documents(self, path: str, names: list[str], texts: list[bytes]) -> tuple[Tokens, Ints]:
        """Tokens of all texts, each with its end token, and their lengths with it."""
        pieces, owners = [], []
        for number, text in enumerate(texts):
            for piece in pieces_of(text):
                pieces.append(piece)
                owners.append(number)
        arrays: list[Tokens] = []
        for start, stop in _batches(pieces):
            found = self.tokenizer.encode_all(pieces[start:stop])
            for place, tokens in enumerate(found, start):
                self._note(path, names[owners[place]], pieces[place], tokens)
            arrays += found
        end = np.array([self.tokenizer.end_of_document], dtype=self.tokenizer.dtype)
        lengths = np.bincount(owners, [len(a) for a in arrays], len(texts)).astype(np.int64) + 1
        joined: list[Tokens] = []
        for place, tokens in enumerate(arrays):
            joined.append(tokens)
            if place + 1 == len(arrays) or owners[place + 1] != owners[place]:
                joined.append(end)
        return np.concatenate(joined) if joined else end[:0], lengths

    def stretch(self, path: str, text: bytes) -> Tokens:
        """Tokens of a part of one text; whoever knows its record names it."""
        tokens, _ = self.documents(path, [""], [text] if text else [])
        return tokens[:-1]

    def _note(self, path: str, name: str, piece: bytes, tokens: Tokens) -> None:
        self.counts["letters"] += len(piece)
        unknown, first = self.tokenizer.unknown(piece, tokens)
        if unknown:
            self.counts["unknown_letters"] += unknown
            shown = printable(piece[first : first + SHOWN].decode("utf-8", "replace"))
            self.unknown = self.unknown or Unknown(path, name, shown)


def check_unknown(counts: Counter[str], first: Unknown | None, allowed: float) -> None:
    """A tokenizer of text that knows none of these letters would train on nothing."""
    letters, unknown = counts["letters"], counts["unknown_letters"]
    if first is None or unknown <= allowed * letters:
        return
    raise UserError(
        f"{first.path}: record {first.record or '(no name)'}: the tokenizer has no token for"
        f" {first.text!r}, nor for {unknown / letters:.1%} of all letters: use another"
        f" --tokenizer, or --allow-unknown {min(1.0, unknown / letters + 0.001):.3f}"
    )


def pieces_of(text: bytes) -> list[bytes]:
    """A text in pieces of at most PIECE bytes, cut before a blank, or else between characters."""
    pieces, at = [], 0
    while len(text) - at > PIECE:
        stop = at + PIECE
        blank = max(text.rfind(b" ", at + 1, stop), text.rfind(b"\n", at + 1, stop))
        stop = blank if blank > 0 else _between(text, stop)
        pieces.append(text[at:stop])
        at = stop
    if at < len(text):
        pieces.append(text[at:])
    return pieces


def runs_of(text: bytes | mmap.mmap, length: int, size: int) -> Iterator[tuple[int, int]]:
    """Where runs of whole pieces start and stop, each of about `size` bytes."""
    start, size = 0, max(size, PIECE) + 1  # a byte more, so that one piece at least is whole
    while start < length:
        stop = length
        if start + size < length:
            stop = start + sum(map(len, pieces_of(text[start : start + size])[:-1]))
        yield start, stop
        start = stop


def _between(text: bytes, place: int) -> int:
    """The last place up to `place` where a character of UTF-8 starts; what has none is cut there,
    as it is no UTF-8.
    """
    inside = range(place, place - LONGEST, -1)
    return next((at for at in inside if text[at] & 0xC0 != 0x80), place)


def _batches(pieces: list[bytes]) -> list[tuple[int, int]]:
    """Runs of pieces of about BATCH bytes."""
    runs, start, size = [], 0, 0
    for place, piece in enumerate(pieces, 1):
        size += len(piece)
        if size >= BATCH or place == len(pieces):
            runs.append((start, place))
            start, size = place, 0
    return runs
