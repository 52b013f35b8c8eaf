"""Files or prepared data → records of the tokens that a network was trained on.

    reader = Reader(trained, ["genomes.fa"], Weighing())
    for sequence in reader:                          # raises UserError for what cannot be scored
        sequence.name, sequence.tokens, sequence.letters

Every letter is accounted for: one that the tokenizer has no token for is refused, an empty record
too. Of codons and k-mers words with another letter than ACGT are [UNK], as `prepare` has them, and
counted in `unknown`, and letters behind the last whole word in `left_out`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from longseq.checkpoint.trained import Trained, same_tokens
from longseq.data.datasets import Dataset, open_datasets
from longseq.data.held_out import document_records
from longseq.data.indexed.format import TokenFile, Tokens
from longseq.data.indexed.writer import WEIGHTS
from longseq.data.prepare.recipe import Recipe
from longseq.data.prepare.text import TextEncoder, Texts
from longseq.data.sources.chunks import pieces
from longseq.data.sources.inputs import expand, open_source
from longseq.data.sources.names import Names, first_word, printable
from longseq.data.sources.pieces import LongRecord, Record
from longseq.data.sources.records import records
from longseq.data.sources.tables import Columns
from longseq.data.tokenizers.base import SequenceTokenizer, Tokenizer
from longseq.data.tokenizers.letters import GAPS, LAYOUT
from longseq.data.tokenizers.tagged import Tagged, untagged
from longseq.data.tokenizers.text import TextTokenizer
from longseq.data.tokenizers.words import Words
from longseq.errors import UserError
from longseq.inference.ranks import world_size
from longseq.reports.format import counted

CHUNK = 1 << 24  # bytes read at once
SEQUENCE, TEXT = "fasta", "text"  # kinds of a file, or of what is typed
TABLE = Columns()
REMEDY = "mend the record"
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Weighing:
    """What tokens count for: in files by their letters; in prepared data as these were made."""

    lower_case: float = 1.0
    unknown: float = 1.0
    prepared: bool = False

    @property
    def by_letters(self) -> bool:
        return self.lower_case != 1.0 or self.unknown != 1.0


@dataclass(frozen=True)
class Sequence:
    """One record: tokens [n] without an end token, the letters that they stand for (of text its
    bytes), and what each token counts for [n], None where all count 1. tags: tokens in front that
    stand for no letter, whatever they count for.
    """

    name: str
    tokens: Tokens
    letters: int
    weights: Weights | None = None
    tags: int = 0


class Reader:
    """The records of files (FASTA, FASTQ, GenBank, JSON lines, text) or of prepared prefixes.

    `done` of `total` bytes or tokens are read; `left_out` letters were behind a last whole word,
    and `unknown` words of files held a letter other than ACGT.
    """

    def __init__(
        self, trained: Trained, names: list[str], weighing: Weighing, columns: Columns = TABLE
    ) -> None:
        self.trained, self.weighing, self.columns = trained, weighing, columns
        self.done = self.left_out = self.unknown = self.total = 0
        self.names = Names()
        self._texts: Texts | None = None  # of a tokenizer of text
        if isinstance(inner := untagged(trained.tokenizer), TextTokenizer):
            if weighing.by_letters:
                raise UserError(
                    "--lower-case-weight and --unknown-weight need a tokenizer of sequences, and"
                    f" {trained.name} has {trained.tokenizer.specification}: leave them out"
                )
            self._texts = Texts(inner, Recipe(inner.specification), REMEDY)
        prepared = [name for name in names if os.path.exists(f"{name}.idx")]
        if prepared and len(prepared) < len(names):
            raise UserError(f"{prepared[0]} is prepared data and others are not: give one kind")
        self.datasets: list[Dataset] = []
        self.paths: tuple[str, ...] = ()
        if prepared:
            self._open(prepared)
            self.total = sum(dataset.tokens.num_tokens for dataset in self.datasets)
        elif names:
            if weighing.prepared:
                raise UserError(
                    "--weighted takes the weights of prepared data: for a file give"
                    " --lower-case-weight or --unknown-weight"
                )
            if "-" in names and world_size() > 1:
                raise UserError("standard input (-) is one rank's: name a file that all can read")
            self.paths = expand(names).paths
            self._look()
            self.total = sum(os.path.getsize(path) for path in self.paths if os.path.isfile(path))

    def _look(self) -> None:
        """Refuse a file that is empty or of no known format, before a network is loaded for it."""
        for path in filter(os.path.isfile, self.paths):
            with open_source(path, self._texts is not None):
                pass

    def _open(self, prefixes: list[str]) -> None:
        if self.weighing.by_letters:
            raise UserError(
                "--lower-case-weight and --unknown-weight are for files; the weights of prepared"
                " data were made with them: give --weighted"
            )
        for prefix in prefixes:
            self.datasets += open_datasets(prefix, unsaid=self.trained.tokenizer)
        for dataset in self.datasets:
            same_tokens(self.trained, dataset.tokenizer, dataset.prefix)
            made = dataset.manifest is not None and WEIGHTS in dataset.manifest.files
            if self.weighing.prepared and not made:
                raise UserError(
                    f"--weighted: {dataset.prefix} was prepared without weights: leave it out"
                )

    def __iter__(self) -> Iterator[Sequence]:
        documents = map(self._documents, self.datasets)
        for sequence in chain(*documents, *map(self._records, self.paths)):
            self.names.add(sequence.name)
            yield sequence

    def _documents(self, dataset: Dataset) -> Iterator[Sequence]:
        end = dataset.tokenizer.end_of_document
        beside = None
        if self.weighing.prepared and dataset.manifest is not None:
            beside = TokenFile(f"{dataset.prefix}.{WEIGHTS}", np.dtype(np.uint8))
            levels = np.array(dataset.manifest.weights, dtype=np.float32)
        for number, record in enumerate(document_records(dataset)):
            start, stop = (int(at) for at in dataset.tokens.document_offsets[number : number + 2])
            tokens = dataset.tokens.read(start, stop - start)
            stop -= int(len(tokens) > 0 and tokens[-1] == end)
            tokens = tokens[: stop - start]
            name = first_word(record.name) or f"document-{number}"
            if record.documents > 1:
                name += f"/{number}"
            if not len(tokens):
                raise UserError(f"{dataset.prefix}: document {number} ({name}) is empty")
            weights = None if beside is None else levels[beside.read(start, stop - start)]
            yield document(dataset.tokenizer, name, tokens, weights)
            self.done += len(tokens)

    def _records(self, path: str) -> Iterator[Sequence]:
        for kind, name, raw in self._raw(path):
            yield self.encode(path, name, raw, kind)

    def raw(self) -> Iterator[tuple[str, bytes]]:
        """The name and the letters, as they stand there, of each record of the files."""
        for path in self.paths:
            for _, name, raw in self._raw(path):
                yield name, raw

    def _raw(self, path: str) -> Iterator[tuple[str, str, bytes]]:
        """With the kind of its file."""
        before, number = self.done, 0
        with open_source(path, self._texts is not None) as source, TemporaryDirectory() as folder:
            for piece in pieces(source, CHUNK, self.columns, os.path.join(folder, "copy")):
                found = (
                    [Record(piece.name, b"".join(piece.pieces))]
                    if isinstance(piece, LongRecord)
                    else records(piece)
                )
                for record in found:
                    number += 1
                    name = first_word(record.name) or f"record-{number}"
                    yield piece.kind, name, record.content
                    self.done = before + source.meter.bytes_read

    def tokens(self, name: str, raw: bytes) -> Tokens:
        """The tokens of a part of a record; UserError for an unknown word, which no letter tells
        from another.
        """
        before, tokens = self.unknown, self.encode(self.paths[0], name, raw).tokens
        if self.unknown > before:
            self.unknown = before
            raise UserError(f"record {name}: a word holds a letter that is none of ACGT")
        return tokens

    def said_of_unknown(self, more: str = "") -> str:
        """What is to be known of unknown words, if there are any."""
        said = f"{counted(self.unknown, 'word')} with another letter than ACGT: [UNK]"
        return f"{said}, as in prepared data{more}" if self.unknown else ""

    def typed(self, flag: str, name: str, text: str) -> Sequence:
        """The tokens of what was typed: as it is, where they are not of nucleotides alone."""
        text_alone = self._texts is not None and not self._texts.nucleotides
        return self.encode(flag, name, text.encode(), TEXT if text_alone else SEQUENCE)

    def encode(self, path: str, name: str, raw: bytes, kind: str = SEQUENCE) -> Sequence:
        """The tokens of one record; UserError where it is empty or a letter has no token. kind: of
        its file, for tokenizers of text.

        It may begin with tags that the network was trained with, "<organism=Escherichia coli>ACGT",
        which count nothing.
        """
        tokenizer = self.trained.tokenizer
        if not isinstance(tokenizer, Tagged):
            return self._encode(tokenizer, path, name, raw, kind)
        lead, raw = self.lead(path, name, raw)
        found = self._encode(tokenizer.inner, path, name, raw, kind)
        tokens = np.concatenate((lead, found.tokens.astype(lead.dtype)))
        weights = found.weights
        if weights is not None:
            weights = np.append(np.zeros(len(lead), np.float32), weights)
        return replace(found, tokens=tokens, weights=weights, tags=len(lead))

    def lead(self, path: str, name: str, raw: bytes) -> tuple[Tokens, bytes]:
        """The tags that a record begins with, and what is behind them."""
        tokenizer = self.trained.tokenizer
        if not isinstance(tokenizer, Tagged):
            return np.zeros(0, np.uint8), raw
        try:
            return tokenizer.lead(raw)
        except UserError as error:
            raise UserError(f"{path}: record {name}: {printable(str(error))}") from None

    def _encode(
        self, tokenizer: Tokenizer, path: str, name: str, raw: bytes, kind: str
    ) -> Sequence:
        if isinstance(tokenizer, TextTokenizer) and self._texts is not None:
            sequence = _text(tokenizer, path, name, self._texts.of(kind, path, name, raw))
        else:
            assert isinstance(tokenizer, SequenceTokenizer)
            sequence = self._letters(tokenizer, path, name, raw)
        if not len(sequence.tokens):
            raise UserError(f"{path}: record {name} is empty: leave it out")
        return sequence

    def _letters(self, tokenizer: SequenceTokenizer, path: str, name: str, raw: bytes) -> Sequence:
        weighing = self.weighing
        recipe = Recipe(
            tokenizer.specification,
            lower_case_weight=weighing.lower_case,
            unknown_weight=weighing.unknown,
        )
        codes = raw.translate(recipe.code_table(), LAYOUT + GAPS)
        recipe.check(path, name, codes, raw=raw, remedy=REMEDY)
        if 0 < len(codes) < tokenizer.bases:
            raise UserError(
                f"{path}: record {name} has fewer letters ({len(codes)}) than a token of"
                f" {tokenizer.specification} ({tokenizer.bases}): leave it out"
            )
        size = len(codes) - len(codes) % tokenizer.bases
        self.left_out += len(codes) - size
        tokens = tokenizer.encode(np.frombuffer(codes, np.uint8)[:size])
        if isinstance(tokenizer, Words):
            self.unknown += int(tokenizer.ambiguous(tokens).sum())
        weights = None
        if weighing.by_letters:
            places = np.frombuffer(raw.translate(recipe.weight_table(), LAYOUT + GAPS), np.uint8)
            words = places[:size].reshape(-1, tokenizer.bases).max(axis=1, initial=0)
            weights = np.array(recipe.weights, dtype=np.float32)[words]
        return Sequence(name, tokens, size, weights)


def document(
    tokenizer: Tokenizer, name: str, tokens: Tokens, weights: Weights | None = None
) -> Sequence:
    """A record of prepared data; its tokens without an end token."""
    tags = tokenizer.tags_in(tokens) if isinstance(tokenizer, Tagged) else 0
    return Sequence(name, tokens, tokenizer.letters(tokens), weights, tags)


def _text(tokenizer: TextTokenizer, path: str, name: str, text: bytes) -> Sequence:
    """A text's tokens; a letter that has none is refused."""
    encoder = TextEncoder(tokenizer)
    tokens, _ = encoder.documents(path, [name], [text] if text else [])
    if encoder.unknown is not None:
        raise UserError(
            f"{path}: record {name}: {encoder.unknown.text!r} has no token in"
            f" {tokenizer.specification}: mend the record"
        )
    return Sequence(name, tokens[:-1], len(text))
