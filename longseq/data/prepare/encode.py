"""Records → tokens: what a worker does with a chunk, vectorised over all its records at once.

Every letter is accounted for: bases read = bases in tokens + what the counts say was left out.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from longseq.data.indexed.format import Tokens
from longseq.data.samples.split import Ints
from longseq.data.sources.chunks import Chunk
from longseq.data.sources.gene_calling import find_genes
from longseq.data.sources.records import records
from longseq.data.tokenizers.alphabet import (
    COMPLEMENT,
    GAPS,
    INVALID,
    LAYOUT,
    LETTERS,
    UNKNOWN,
    code_table,
    letters,
    reverse_complement,
)  # fmt: skip
from longseq.data.tokenizers.base import SequenceTokenizer, Tokenizer
from longseq.data.tokenizers.registry import tokenizer_from
from longseq.data.tokenizers.text import TextTokenizer
from longseq.errors import UserError

BASES = bytes(range(4))
COMPLEMENT_TABLE = COMPLEMENT.tobytes() + bytes(range(len(COMPLEMENT), 256))


@dataclass(frozen=True)
class Recipe:
    """How letters become tokens; the same for every worker."""

    tokenizer: str = "nucleotide"
    ambiguous: str = "keep"
    mask_lower_case: bool = False
    reverse_complement: bool = False
    genes: bool = False


@dataclass(frozen=True)
class Stretch:
    """A piece of a long record that waits in a file of codes.

    backward: of the other strand; closes: the document ends here; final: the record does.
    """

    path: str
    spool: str
    start: int
    stop: int
    backward: bool
    closes: bool
    final: bool


@dataclass(frozen=True)
class Encoded:
    """tokens: any dtype [n], each document closed by its end token, except perhaps the last.

    lengths: int64 [documents], tokens of each closed document with its end.
    groups: int64 [records], closed documents of each record.
    """

    tokens: Tokens
    lengths: Ints
    groups: Ints
    counts: Counter[str]


class Encoder:
    """A recipe with its tables."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.tokenizer: Tokenizer = tokenizer_from(recipe.tokenizer)
        self.table = code_table(recipe.mask_lower_case)
        self.split = recipe.ambiguous == "split"
        if recipe.ambiguous == "n":
            fold = bytes(min(c, UNKNOWN) if c != INVALID else c for c in range(256))
            self.table = self.table.translate(fold)

    def encode(self, task: Chunk | Stretch) -> Encoded:
        if isinstance(self.tokenizer, TextTokenizer):
            return self._encode_texts(self.tokenizer, task)
        if not isinstance(self.tokenizer, SequenceTokenizer):
            raise TypeError(self.recipe.tokenizer)
        if isinstance(task, Stretch):
            return self._encode_stretch(self.tokenizer, task)
        return self._encode_chunk(self.tokenizer, task)

    def codes(self, raw: bytes) -> bytes:
        """Letters → codes, without line ends, spaces and gaps."""
        return raw.translate(self.table, LAYOUT + GAPS)

    def _encode_chunk(self, tokenizer: SequenceTokenizer, chunk: Chunk) -> Encoded:
        counts: Counter[str] = Counter()
        parts: list[list[bytes]] = []
        for name, raw in records(chunk):
            codes = self.codes(raw)
            counts["records"] += 1
            counts["bases"] += len(codes)
            counts["gaps"] += count_gaps(raw, codes)
            self.check(chunk.path, name, codes)
            if not codes:
                counts["empty_records"] += 1
            elif self.recipe.ambiguous == "drop" and codes.translate(None, BASES):
                counts["dropped_records"] += 1
                counts["dropped_bases"] += len(codes)
            else:
                parts.append(self._units(codes, counts))
        return _joined(tokenizer, parts, self.split, counts)

    def check(self, path: str, name: str, codes: bytes, before: int = 0) -> None:
        """Refuse what is no nucleotide and, where asked, what is none of A, C, G, T.

        before: letters of the record that came before these.
        """
        record = f"{path}: record {name or '(no name)'}"
        place = codes.find(INVALID)
        if place >= 0:
            raise UserError(
                f"{record}: letter {before + place + 1:,} is no nucleotide: mend the record, or use"
                " --tokenizer byte for other text"
            )
        if self.recipe.ambiguous == "refuse" and (foreign := codes.translate(None, BASES)):
            place = before + codes.find(foreign[0]) + 1
            raise UserError(
                f"{record}: letter {place:,} is {LETTERS[foreign[0]]}: choose another policy than"
                " --ambiguous refuse"
            )

    def _units(self, codes: bytes, counts: Counter[str]) -> list[bytes]:
        """The documents of one record, as codes: itself, with its other strand, or its genes."""
        if self.recipe.genes:
            sequence = letters(np.minimum(np.frombuffer(codes, np.uint8), UNKNOWN)).encode()
            genes = find_genes(sequence)
            counts["genes"] += len(genes.sequences)
            counts["bases_outside_genes"] += len(codes) - genes.covered
            return [self.codes(gene) for gene in genes.sequences]
        if self.recipe.reverse_complement:
            return [codes, codes[::-1].translate(COMPLEMENT_TABLE)]
        return [codes]

    def _encode_stretch(self, tokenizer: SequenceTokenizer, task: Stretch) -> Encoded:
        codes = read_spool(task)
        if task.backward:
            codes = reverse_complement(codes)
        counts: Counter[str] = Counter()
        if self.recipe.genes:
            return _joined(tokenizer, [self._units(codes.tobytes(), counts)], self.split, counts)
        tokens = tokenizer.encode(codes)
        if self.split:
            tokens = _split(tokenizer, tokens, counts)
        return _measured(tokenizer, tokens, np.zeros(0, dtype=np.int64), counts)

    def _encode_texts(self, tokenizer: TextTokenizer, task: Chunk | Stretch) -> Encoded:
        counts: Counter[str] = Counter()
        if isinstance(task, Stretch):
            texts = [letters(read_spool(task)).encode()]
        elif task.kind in ("text", "jsonl"):
            texts = [raw for _, raw in records(task)]
            counts["bytes"] += sum(map(len, texts))
        else:
            texts = []
            for name, raw in records(task):
                codes = self.codes(raw)
                self.check(task.path, name, codes)
                counts["bases"] += len(codes)
                counts["gaps"] += count_gaps(raw, codes)
                texts.append(letters(np.frombuffer(codes, np.uint8)).encode())
        if isinstance(task, Chunk):
            counts["records"] += len(texts)
            counts["empty_records"] += sum(not text for text in texts)
        end = np.array([tokenizer.end_of_document], dtype=tokenizer.dtype)
        arrays = [np.append(ids, end) for ids in tokenizer.encode_all([t for t in texts if t])]
        tokens = np.concatenate(arrays) if arrays else end[:0]
        lengths = np.array([len(array) for array in arrays], dtype=np.int64)
        return Encoded(tokens, lengths, np.ones(len(arrays), dtype=np.int64), counts)


def count_gaps(raw: bytes, codes: bytes) -> int:
    """Alignment gaps among letters; they stand for no base."""
    return 0 if len(raw) == len(codes) else raw.count(b"-") + raw.count(b".")


def read_spool(task: Stretch) -> npt.NDArray[np.uint8]:
    return np.fromfile(task.spool, dtype=np.uint8, count=task.stop - task.start, offset=task.start)


def _joined(
    tokenizer: SequenceTokenizer, parts: list[list[bytes]], split: bool, counts: Counter[str]
) -> Encoded:
    """Documents of many records as one array of tokens; parts: per record, the codes of its
    documents.
    """
    size = tokenizer.bases
    units = [unit for part in parts for unit in part]
    lengths = np.array([len(unit) for unit in units], dtype=np.int64)
    counts["trailing_bases"] += int((lengths % size).sum())
    filler = bytes(size)
    whole = [unit if len(unit) % size == 0 else unit[: -(len(unit) % size)] for unit in units]
    joined = filler.join(whole) + filler if whole else b""
    tokens = tokenizer.encode(np.frombuffer(joined, dtype=np.uint8))
    tokens = tokens if tokens.flags.writeable else tokens.copy()
    ends = np.cumsum(lengths // size + 1) - 1
    tokens[ends] = tokenizer.end_of_document
    units_up_to = np.cumsum([len(part) for part in parts], dtype=np.int64)
    if split or (lengths < size).any():
        closing = tokens == tokenizer.end_of_document
        if split:
            foreign = tokenizer.ambiguous(tokens) & ~closing
            counts["ambiguous_left_out"] += int(foreign.sum()) * size
            closing |= foreign
        kept = _without_empty(closing)
        documents = np.append(0, np.cumsum(closing & kept)[ends])[units_up_to]
        tokens = np.where(closing, tokenizer.end_of_document, tokens)[kept].astype(tokens.dtype)
    else:
        documents = units_up_to
    return _measured(tokenizer, tokens, np.diff(documents, prepend=0), counts)


def _split(tokenizer: SequenceTokenizer, tokens: Tokens, counts: Counter[str]) -> Tokens:
    """Ambiguous tokens become ends of documents; a run of them one end."""
    foreign = tokenizer.ambiguous(tokens)
    counts["ambiguous_left_out"] += int(foreign.sum()) * tokenizer.bases
    follows = np.concatenate(([False], foreign[:-1]))
    tokens = np.where(foreign, tokenizer.end_of_document, tokens).astype(tokens.dtype)
    return tokens[~(foreign & follows)]


def _without_empty(closing: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which tokens stay so that no document is an end token alone."""
    return ~(closing & np.concatenate(([True], closing[:-1])))


def _measured(
    tokenizer: SequenceTokenizer, tokens: Tokens, groups: Ints, counts: Counter[str]
) -> Encoded:
    ends = np.flatnonzero(tokens == tokenizer.end_of_document)
    lengths = np.diff(ends, prepend=-1)
    return Encoded(tokens, lengths, groups, counts)
