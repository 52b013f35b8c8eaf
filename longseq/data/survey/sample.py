"""A random sample of the letters of all records, of bounded size, in one pass over any number.

Reservoir sampling, drawn by a fixed seed: the same inputs give the same sample.
"""

import re
from collections.abc import Iterable, Iterator

import numpy as np

from longseq.data.sources.pieces import TEXTS
from longseq.data.survey.reading import Check, RawRecord
from longseq.data.tokenizers.alphabet import GAPS, LAYOUT, UNKNOWN, letters

WORD = 128  # letters; words of the vocabulary are searched within as many
LETTERS = 1 << 23  # of the sample; training takes about 100 bytes for each
RUNS = re.compile(b"[ACGT]+")
SEED = 1234


class Sample:
    """words: stretches of up to WORD letters A, C, G, T. seen: letters that there were; text:
    whether some came from texts, whose lower case is no upper case.
    """

    def __init__(self, size: int = LETTERS // WORD) -> None:
        self.size = size
        self.words: list[str] = []
        self.seen, self.text = 0, False
        self._count = 0
        self._random = np.random.default_rng(SEED)

    def add(self, text: bytes) -> None:
        """Letters of one record, or of a part of it; others than A, C, G, T divide it."""
        for run in RUNS.finditer(text):
            first, stop = run.span()
            self.seen += stop - first
            self._add_words(text, range(first, stop, WORD), stop)

    def _add_words(self, text: bytes, starts: range, stop: int) -> None:
        at = 0
        while at < len(starts) and len(self.words) < self.size:
            self.words.append(_word(text, starts[at], stop))
            at += 1
        numbers = np.arange(self._count + at, self._count + len(starts))
        self._count += len(starts)
        places = self._random.integers(0, numbers + 1)
        for number in np.flatnonzero(places < self.size).tolist():
            self.words[int(places[number])] = _word(text, starts[at + number], stop)

    def batches(self, size: int = 1000) -> Iterator[list[str]]:
        for start in range(0, len(self.words), size):
            yield self.words[start : start + size]


def sample_of(records: Iterable[RawRecord], table: bytes, note: Check | None = None) -> Sample:
    """A sample of all of them, as a tokenizer of text will see them. table: letter → code
    (alphabet.py); what is no nucleotide is passed over here, for the preparation refuses it. note:
    sees the codes of each part.
    """
    sample = Sample()
    for record in records:
        for raw in record.parts:
            if record.kind in TEXTS:
                sample.add(raw)
                sample.text = True
                continue
            codes = raw.translate(table, LAYOUT + GAPS)
            if note is not None:
                note(record, codes)
            bases = np.minimum(np.frombuffer(codes, np.uint8), UNKNOWN)
            sample.add(letters(bases).encode())
    return sample


def _word(text: bytes, start: int, stop: int) -> str:
    return text[start : min(start + WORD, stop)].decode("ascii")
