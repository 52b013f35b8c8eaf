"""Records → tokens: what a worker does with a chunk, vectorised over all its records at once.

Every letter is accounted for: bases read = bases in tokens + what the counts say was left out. And
every document knows its place, so that a split can hold out the other strand of what it holds out.
"""

import mmap
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from longseq.data.indexed.format import Flags, Ints, Tokens
from longseq.data.prepare.encoded import Encoded, Runs, Stretch, of_documents
from longseq.data.prepare.fasta import count_lower_case, marked, usual_fasta
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.text import TextEncoder, Texts
from longseq.data.prepare.units import Units, feature_units, left_out, record_units
from longseq.data.sources.annotation.features import kinds_of
from longseq.data.sources.pieces import TEXTS, Chunk, Parsed
from longseq.data.sources.records import records
from longseq.data.tokenizers.alphabet import GAPS, LAYOUT, reverse_complement
from longseq.data.tokenizers.base import SequenceTokenizer, Tokenizer
from longseq.data.tokenizers.letters import count_gaps
from longseq.data.tokenizers.registry import tokenizer_from
from longseq.data.tokenizers.text import TextTokenizer


class Encoder:
    """A recipe with its tables."""

    def __init__(self, recipe: Recipe) -> None:
        bytes(1 << 23)  # glibc keeps freed blocks for later ones from now on, up to this size
        self.recipe = recipe
        self.tokenizer: Tokenizer = tokenizer_from(recipe.tokenizer)
        self.texts: Texts | None = None  # of a tokenizer of text
        if isinstance(self.tokenizer, TextTokenizer):
            self.texts = Texts(self.tokenizer, recipe)
        self.table = recipe.code_table()
        self.weighted = recipe.weighted
        self.weight_table = recipe.weight_table()
        self.split = recipe.ambiguous == "split"
        self.marked = marked(self.table)
        self.features = kinds_of(recipe.features)
        several = recipe.genes or recipe.reverse_complement or recipe.features
        self.plain = not (several or self.weighted)
        known = recipe.ambiguous in ("keep", "n") and not recipe.min_length
        self.usual = self.plain and known

    def encode(self, task: Chunk | Parsed | Stretch) -> Encoded:
        if isinstance(self.tokenizer, TextTokenizer) and self.texts is not None:
            return self._encode_texts(self.tokenizer, self.texts, task)
        if not isinstance(self.tokenizer, SequenceTokenizer):
            raise TypeError(self.recipe.tokenizer)
        if isinstance(task, Stretch):
            return self._encode_stretch(self.tokenizer, task)
        return self._encode_chunk(self.tokenizer, task)

    def codes(self, raw: bytes) -> bytes:
        """Letters → codes, without line ends, spaces and gaps."""
        return raw.translate(self.table, LAYOUT + GAPS)

    def weights(self, raw: bytes) -> bytes:
        """Letters → places of their weights, aligned with their codes; empty where all count 1."""
        return raw.translate(self.weight_table, LAYOUT + GAPS) if self.weighted else b""

    def _encode_usual(self, tokenizer: SequenceTokenizer, chunk: Chunk | Parsed) -> Encoded | None:
        """A chunk for which there is a quick way; None where there is not."""
        if not self.usual or not isinstance(chunk, Chunk) or chunk.kind != "fasta":
            return None
        if (found := usual_fasta(chunk, self.marked, tokenizer)) is None:
            return None
        count, bases = len(found.names), int(found.sizes.sum())
        zeros = np.zeros(count, np.int64)
        return Encoded(
            found.tokens,
            found.sizes // tokenizer.bases + 1,
            Runs(np.arange(count), zeros, zeros.astype(bool)),
            Counter(
                records=count,
                bases=bases,
                gaps=found.gaps,
                trailing_bases=found.trailing,
                lower_case_bases=found.lower_case,
            ),
            found.names,
            found.sizes.tolist(),
        )

    def _encode_chunk(self, tokenizer: SequenceTokenizer, chunk: Chunk | Parsed) -> Encoded:
        if (usual := self._encode_usual(tokenizer, chunk)) is not None:
            return usual
        recipe, units = self.recipe, Units()
        counts: Counter[str] = Counter()
        names: list[str] = []
        sizes: list[int] = []
        facts: list[str] = []
        for name, raw, known, features in records(chunk, self.features):
            codes = self.codes(raw)
            recipe.check(chunk.path, name, codes, raw=raw)
            counts["gaps"] += count_gaps(raw)
            counts["lower_case_bases"] += count_lower_case(raw)
            if self.features:
                weights = self.weights(raw)
                feature_units(recipe, codes, weights, features, len(names), units, counts)
            elif left_out(recipe, len(codes), codes, counts):
                pass
            elif self.plain:  # the usual case, and the quickest
                units.add(codes, len(names), 0, False, b"")
            else:
                record_units(recipe, codes, self.weights(raw), len(names), units, counts)
            names.append(name)
            sizes.append(len(codes))
            facts.append(known)
        counts["records"] += len(names)
        counts["bases"] += sum(sizes)
        return self._joined(tokenizer, units, counts, names, sizes, facts)

    def _encode_stretch(self, tokenizer: SequenceTokenizer, task: Stretch) -> Encoded:
        counts: Counter[str] = Counter()
        if self.features:
            return self._encode_features(tokenizer, task, counts)
        codes = _read(task.spool, task)
        weights = _read(task.weights, task) if task.weights else codes[:0]
        if self.recipe.genes:
            units = Units()
            record_units(self.recipe, codes.tobytes(), weights.tobytes(), 0, units, counts)
            return self._joined(tokenizer, units, counts, [], [], [])
        if task.backward:
            codes, weights = reverse_complement(codes), weights[::-1]
        tokens = tokenizer.encode(codes)
        classes = _largest(weights, tokenizer.bases) if self.weighted else None
        starts, closing = np.zeros(min(1, len(tokens)), np.int64), tokens[:0].astype(bool)
        if self.split:
            closing = tokenizer.ambiguous(tokens)
            counts["ambiguous_left_out"] += int(closing.sum()) * tokenizer.bases
            starts = _starts(closing)
            kept = ~(closing & np.concatenate(([False], closing[:-1])))
            tokens = np.where(closing, tokenizer.end_of_document, tokens)[kept].astype(tokens.dtype)
            classes = None if classes is None else np.where(closing, 0, classes)[kept]
            closing = closing[kept]
        lengths = np.diff(np.flatnonzero(closing), prepend=-1)
        step = -tokenizer.bases if task.backward else tokenizer.bases
        begin = (task.stop if task.backward else task.start) + starts * step
        runs = Runs(np.zeros_like(begin), begin, np.full(len(begin), task.backward))
        return Encoded(tokens, lengths, runs, counts, weights=classes)

    def _encode_features(
        self, tokenizer: SequenceTokenizer, task: Stretch, counts: Counter[str]
    ) -> Encoded:
        """Some of a long record's features; of its letters only theirs are read."""
        units = Units()
        with mapped(task.spool) as codes, mapped(task.weights) as weights:
            feature_units(self.recipe, codes, weights, task.features, 0, units, counts)
        return self._joined(tokenizer, units, counts, [], [], [])

    def _joined(
        self, tokenizer: SequenceTokenizer, units: Units, counts: Counter[str],
        names: list[str], sizes: list[int], facts: list[str],
    ) -> Encoded:  # fmt: skip
        """Documents of many records as one array of tokens."""
        size = tokenizer.bases
        lengths = np.array([len(unit) for unit in units.codes], dtype=np.int64)
        counts["trailing_bases"] += int((lengths % size).sum())
        if below := int((lengths < size).sum()):  # of a record, both its strands
            counts["below_a_token"] += below // (2 if self.recipe.reverse_complement else 1)
        tokens = tokenizer.encode_documents(units.codes)
        classes = self._classes(units, size) if self.weighted else None
        runs = Runs(
            np.array(units.owner, dtype=np.int64),
            np.array(units.begin, dtype=np.int64),
            np.array(units.backward, dtype=bool),
            np.arange(len(units.codes)) if self.features else None,
        )
        documents = lengths // size + 1
        if self.split or (lengths < size).any():
            tokens, classes, documents, runs = self._divided(
                tokenizer, tokens, classes, documents, runs, counts
            )
        return Encoded(
            tokens, documents, runs, counts, names, sizes, classes,
            facts=facts, features=units.features,
        )  # fmt: skip

    def _classes(self, units: Units, size: int) -> Tokens:
        """The weights of tokens, of end tokens 1."""
        whole = [unit[: len(unit) - len(unit) % size] + bytes(size) for unit in units.weights]
        return _largest(np.frombuffer(b"".join(whole), np.uint8), size)

    def _divided(
        self, tokenizer: SequenceTokenizer, tokens: Tokens, classes: Tokens | None,
        documents: Ints, runs: Runs, counts: Counter[str],
    ) -> tuple[Tokens, Tokens | None, Ints, Runs]:  # fmt: skip
        """Documents cut where letters are left out; none is an end token alone."""
        closing = tokens == tokenizer.end_of_document
        if self.split:
            foreign = tokenizer.ambiguous(tokens) & ~closing
            counts["ambiguous_left_out"] += int(foreign.sum()) * tokenizer.bases
            closing |= foreign
        starts = _starts(closing)
        firsts = np.cumsum(documents) - documents
        unit = np.searchsorted(firsts, starts, side="right") - 1
        step = np.where(runs.backward[unit], -tokenizer.bases, tokenizer.bases)
        begin = runs.begin[unit] + (starts - firsts[unit]) * step
        kept = ~(closing & np.concatenate(([True], closing[:-1])))
        tokens = np.where(closing, tokenizer.end_of_document, tokens)[kept].astype(tokens.dtype)
        classes = None if classes is None else np.where(closing, 0, classes)[kept]
        lengths = np.diff(np.flatnonzero(closing[kept]), prepend=-1)
        divided = Runs(
            runs.owner[unit], begin, runs.backward[unit], unit if self.features else None
        )
        return tokens, classes, lengths, divided

    def _encode_texts(
        self, tokenizer: TextTokenizer, seen: Texts, task: Chunk | Parsed | Stretch
    ) -> Encoded:
        encoder = TextEncoder(tokenizer)
        counts: Counter[str] = Counter()
        names: list[str] = []
        sizes: list[int] = []
        if isinstance(task, Stretch):
            tokens = encoder.stretch(task.path, _read(task.spool, task).tobytes())
            none = np.zeros(min(1, len(tokens)), np.int64)
            runs = Runs(none, none, none.astype(bool))
            return Encoded(tokens, none[:0], runs, encoder.counts, unknown=encoder.unknown)
        texts: list[bytes] = []
        facts: list[str] = []
        for name, raw, known, _ in records(task):
            text = seen.of(task.kind, task.path, name, raw)
            if task.kind not in TEXTS:
                counts["gaps"] += count_gaps(raw)
                counts["lower_case_bases"] += count_lower_case(raw)
            if not left_out(self.recipe, len(text), b"", counts):
                texts.append(text)
            names.append(name)
            sizes.append(len(text))
            facts.append(known)
        counts["records"] += len(names)
        counts["bytes" if task.kind in TEXTS else "bases"] += sum(sizes)
        owner = np.flatnonzero([size > 0 and size >= self.recipe.min_length for size in sizes])
        named = [names[place] for place in owner]
        tokens, lengths = encoder.documents(task.path, named, texts)
        runs = Runs(owner, np.zeros_like(owner), np.zeros(len(owner), dtype=bool))
        counts.update(encoder.counts)
        found = Encoded(
            tokens, lengths, runs, counts, names, sizes, unknown=encoder.unknown, facts=facts
        )
        some = lengths > 1  # of blanks alone a library may make no token
        return of_documents(found, some, below_a_token=int((~some).sum()))


@contextmanager
def mapped(path: str) -> Iterator[bytes | mmap.mmap]:
    """A file of which only what is asked for is read; nothing where there is none."""
    if not path:
        yield b""
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def _read(path: str, task: Stretch) -> npt.NDArray[np.uint8]:
    return np.fromfile(path, dtype=np.uint8, count=task.stop - task.start, offset=task.start)


def _largest(weights: npt.NDArray[np.uint8], size: int) -> Tokens:
    """The weight of a word: the smallest of its letters', which has the largest place."""
    return weights if size == 1 else weights.reshape(-1, size).max(axis=1, initial=0)


def _starts(closing: Flags) -> Ints:
    """The first token of each run of tokens that close nothing."""
    return np.flatnonzero(~closing & np.concatenate(([True], closing[:-1])))
