"""The inputs of a preparation as one ordered row of tasks: pieces to encode, and what lies between.

Pieces (Chunk, Parsed, Stretch) go to workers; the notes between them (where a file starts and ends,
where a long record does) come through in their places, so that whoever writes knows whose documents
come.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from longseq.data.prepare.encode import Encoder, mapped
from longseq.data.prepare.encoded import Stretch
from longseq.data.prepare.fasta import count_lower_case
from longseq.data.prepare.recipe import BASES
from longseq.data.prepare.settings import Settings
from longseq.data.prepare.text import runs_of
from longseq.data.prepare.units import left_out
from longseq.data.sources.annotation.features import Feature
from longseq.data.sources.chunks import pieces
from longseq.data.sources.identity import identity
from longseq.data.sources.inputs import Source, open_source
from longseq.data.sources.pieces import TEXTS, Chunk, LongRecord, Parsed
from longseq.data.sources.records import records
from longseq.data.sources.remote import shown
from longseq.data.tokenizers.base import SequenceTokenizer
from longseq.data.tokenizers.letters import count_gaps
from longseq.data.tokenizers.text import TextTokenizer
from longseq.errors import UserError

if TYPE_CHECKING:
    from longseq.data.sources.annotation.beside import Annotation

SPOOLED = 0.5  # of a long record's way, once it is read: the rest is told as its tokens are made
SPOOLED_SLOWLY = 0.02  # where a library makes them, or finds genes


@dataclass(frozen=True)
class FileStart:
    """identity: of progress.py. goes_on: an earlier preparation read its first pieces."""

    path: str
    identity: str
    goes_on: bool = False


@dataclass(frozen=True)
class FileEnd:
    """facts: what the manifest says of the file. reason: why it could not be read, or ""."""

    path: str
    facts: dict[str, Any]
    reason: str = ""


@dataclass(frozen=True)
class LongStart:
    """A record whose stretches follow, if it is kept; counts: of all its letters."""

    name: str
    length: int
    counts: Counter[str]
    kept: bool = True
    facts: str = ""


Note = FileStart | FileEnd | LongStart
Work = Chunk | Parsed | Stretch
Task = Work | Note


class Reader:
    """Reads files into tasks; `bytes_read` says how far it is."""

    def __init__(
        self,
        encoder: Encoder,
        prefix: str,
        settings: Settings,
        annotation: "Annotation | None",
    ) -> None:
        self.encoder = encoder
        self.prefix = prefix
        self.chunk = settings.chunk
        self.skip_bad = settings.skip_bad
        self.columns = settings.columns
        self.annotation = annotation
        self.bytes_read = 0
        text = isinstance(encoder.tokenizer, TextTokenizer)
        self._spooled = SPOOLED_SLOWLY if text or encoder.recipe.genes else SPOOLED
        self._spools = 0

    def tasks(
        self, paths: list[str], report: Callable[[int], None], already: int = 0
    ) -> Iterator[Task]:
        """Everything there is to encode, file by file; of the first without its first pieces."""
        left_out = False
        for place, path in enumerate(paths):
            done = 0 if place else already
            yield FileStart(shown(path), identity(path), goes_on=done > 0)
            if self.annotation is not None:
                self.annotation.mark()
            try:
                yield from self._file(path, report, done)
            except UserError as error:
                if not self.skip_bad:
                    raise
                left_out = True
                if self.annotation is not None:
                    self.annotation.rollback()
                yield FileEnd(shown(path), {}, str(error))
        if self.annotation is not None and not left_out:  # else it may be of what was left out
            self.annotation.check_met()

    def _file(self, path: str, report: Callable[[int], None], done: int) -> Iterator[Task]:
        before = self.bytes_read

        def tell(done: float) -> None:
            self.bytes_read = before + int(done)
            report(self.bytes_read)

        with open_source(path, isinstance(self.encoder.tokenizer, TextTokenizer)) as source:
            taken = pieces(source, self.chunk, self.columns, f"{self.prefix}.copy")
            for number, piece in enumerate(taken):
                if number < done:
                    _pass_over(piece)
                elif isinstance(piece, LongRecord):
                    yield from self._long(piece, source, tell)
                else:
                    tell(source.bytes_done)
                    yield self._annotated(piece)
            self.bytes_read = before + source.meter.bytes_read
            facts = source.facts()
        yield FileEnd(source.path, facts)

    def _annotated(self, piece: Chunk | Parsed) -> Chunk | Parsed:
        """A piece with the features that other files say its records have. Letters are looked at
        here, so that a bad file is known before another one may have the same records.
        """
        if self.annotation is None:
            return piece
        found = []
        for record in records(piece):
            codes = self.encoder.codes(record.content)
            self.encoder.recipe.check(piece.path, record.name, codes, raw=record.content)
            gaps = count_gaps(record.content)
            features = self._take(piece.path, record.name, len(codes), gaps)
            found.append(record._replace(features=features))
        return Parsed(piece.kind, piece.path, found)

    def _take(self, path: str, name: str, length: int, gaps: int) -> tuple[Feature, ...]:
        return () if self.annotation is None else self.annotation.take(path, name, length, gaps)

    def _long(
        self, record: LongRecord, source: Source, tell: Callable[[float], None]
    ) -> Iterator[LongStart | Stretch]:
        """Write a long record's codes, or its text, to a file of their own and hand it out in
        stretches.
        """
        self._spools += 1
        spool = f"{self.prefix}.spool-{self._spools}"
        weights = f"{spool}.weights" if self.encoder.recipe.weighted else ""
        texts = self.encoder.texts
        text = texts is not None and record.kind in TEXTS
        counts: Counter[str] = Counter()
        foreign = b""
        with open(spool, "wb") as file, open(weights or os.devnull, "wb") as beside:
            length, begin = 0, source.bytes_done
            for raw in record.pieces:
                if texts is not None:
                    found = texts.of(record.kind, record.path, record.name, raw, length)
                else:
                    found = self.encoder.codes(raw)
                    self.encoder.recipe.check(record.path, record.name, found, length, raw=raw)
                    foreign = foreign or found.translate(None, BASES)[:1]
                    beside.write(self.encoder.weights(raw))
                if not text:
                    counts["gaps"] += count_gaps(raw)
                    counts["lower_case_bases"] += count_lower_case(raw)
                length += file.write(found)
                tell(begin + self._spooled * (source.bytes_done - begin))
        counts["records"] += 1
        counts["bytes" if text else "bases"] += length
        if self.encoder.features:
            yield from self._feature_stretches(record, spool, weights, length, counts)
            return
        tokenizer, recipe = self.encoder.tokenizer, self.encoder.recipe
        bases = tokenizer.bases if isinstance(tokenizer, SequenceTokenizer) else 1
        unused = left_out(recipe, length, foreign, counts)
        if not unused and not recipe.genes:
            counts["trailing_bases"] += length % bases * (2 if recipe.reverse_complement else 1)
        if not unused and not recipe.genes and length < bases:
            counts["below_a_token"] += 1
        if unused or length < bases:
            yield LongStart(record.name, length, counts, False, record.facts)
            _remove(spool, weights)
            return
        yield LongStart(record.name, length, counts, True, record.facts)
        done, all_letters = 0, length * (2 if recipe.reverse_complement else 1)
        for stretch in self._stretches(record.path, spool, weights, length):
            yield stretch
            done += stretch.stop - stretch.start
            way = self._spooled + (1 - self._spooled) * done / all_letters
            tell(begin + way * (source.bytes_done - begin))

    def _feature_stretches(
        self, record: LongRecord, spool: str, weights: str, length: int, counts: Counter[str]
    ) -> Iterator[LongStart | Stretch]:
        """A long record's features, about as many letters of them at a time as a piece has."""
        features = self._take(record.path, record.name, length, counts["gaps"])
        yield LongStart(record.name, length, counts, bool(features), record.facts)
        if not features:
            _remove(spool, weights)
        ends = np.cumsum([feature.length for feature in features])
        runs = np.split(np.arange(len(features)), np.flatnonzero(np.diff(ends // self.chunk)) + 1)
        for run in runs if features else []:
            some = features[run[0] : run[-1] + 1]
            final = run[-1] + 1 == len(features)
            yield Stretch(
                record.path, spool, 0, length, False, False, final, weights, features=some
            )

    def _stretches(self, path: str, spool: str, weights: str, length: int) -> Iterator[Stretch]:
        recipe, tokenizer = self.encoder.recipe, self.encoder.tokenizer
        if recipe.genes:
            yield Stretch(path, spool, 0, length, False, False, True, weights)  # needs it whole
            return
        if isinstance(tokenizer, TextTokenizer):
            with mapped(spool) as text:
                for start, stop in runs_of(text, length, self.chunk):
                    ends = stop == length
                    yield Stretch(path, spool, start, stop, False, ends, ends)
            return
        bases = tokenizer.bases if isinstance(tokenizer, SequenceTokenizer) else 1
        trailing = length % bases
        step = max(bases, self.chunk - self.chunk % bases)
        both = recipe.reverse_complement
        for start in range(0, length - trailing, step):
            stop = min(start + step, length - trailing)
            closes = stop == length - trailing
            final = closes and not both
            yield Stretch(path, spool, start, stop, False, closes, final, weights)
        for stop in range(length, trailing, -step) if both else ():
            start = max(stop - step, trailing)
            closes = start == trailing
            yield Stretch(path, spool, start, stop, True, closes, closes, weights)


def _pass_over(piece: Chunk | Parsed | LongRecord) -> None:
    """Read a piece that is not needed to its end."""
    if isinstance(piece, LongRecord):
        for _ in piece.pieces:
            pass


def _remove(*paths: str) -> None:
    for path in filter(None, paths):
        os.unlink(path)


def remove_spool(task: Stretch) -> None:
    """Its record is written; the files it waited in are not needed any more."""
    _remove(task.spool, task.weights)
