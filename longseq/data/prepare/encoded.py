"""What goes to a worker and what comes back: pieces of long records, tokens and where they lie."""

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from longseq.data.indexed.format import Flags, Ints, Tokens
from longseq.data.prepare.text import Unknown
from longseq.data.sources.annotation.features import Feature
from longseq.errors import UserError


@dataclass(frozen=True)
class Stretch:
    """A piece of a long record that waits in a file of codes, or of text.

    start, stop: letters of the record. backward: of the other strand; closes: the document ends
    here; final: the record does. weights: the file of its letters' weights, or "".
    features: annotated ones of the record, each a document.
    """

    path: str
    spool: str
    start: int
    stop: int
    backward: bool
    closes: bool
    final: bool
    weights: str = ""
    features: tuple[Feature, ...] = ()


@dataclass(frozen=True)
class Runs:
    """Where each document of a result starts reading; the first may go on with an open one.

    owner: int64 [n], its record, counted within the result. begin: int64 [n], of its record's bases
    the first it reads, or, of the other strand, one past it. backward: bool [n]. unit: int64 [n],
    its feature, counted within the result; None where documents are no features.
    """

    owner: Ints
    begin: Ints
    backward: Flags
    unit: Ints | None = None


NO_RUNS = Runs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, dtype=bool))


@dataclass(frozen=True)
class Encoded:
    """tokens: any dtype [n], each document closed by its end token, except perhaps the last.

    lengths: int64 [documents], tokens of each closed document with its end. names, sizes: of each
    record, its name and bases; facts: JSON of what is known of it, or "", or none at all. weights:
    uint8 [n], places in Recipe.weights, or None. features: what Runs.unit counts.
    """

    tokens: Tokens
    lengths: Ints
    runs: Runs
    counts: Counter[str]
    names: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    weights: Tokens | None = None
    unknown: Unknown | None = None
    facts: list[str] = field(default_factory=list)
    features: list[Feature] = field(default_factory=list)


Result = Encoded | UserError | None  # what is wrong with a task; nothing of a note


def of_documents(result: Encoded, documents: Flags, **counts: int) -> Encoded:
    """A result of whole records with these of its documents only, bool [documents], and what is
    counted of it: all of its records stay.
    """
    kept = np.repeat(documents, result.lengths)
    runs = result.runs
    return replace(
        result,
        tokens=result.tokens[kept],
        lengths=result.lengths[documents],
        runs=Runs(
            runs.owner[documents],
            runs.begin[documents],
            runs.backward[documents],
            None if runs.unit is None else runs.unit[documents],
        ),
        weights=None if result.weights is None else result.weights[kept],
        counts=result.counts + Counter(counts),
    )


def without(result: Encoded, dropped: Flags) -> Encoded:
    """A result of whole records without the documents of those that are dropped, bool [records]."""
    documents = ~dropped[result.runs.owner]
    left_out = int((result.lengths[~documents] - 1).sum())
    return of_documents(
        result, documents, duplicate_records=int(dropped.sum()), duplicate_tokens=left_out
    )


def emptied(result: Encoded) -> Encoded:
    """A stretch of a record that is dropped: its counts."""
    left_out = len(result.tokens) - len(result.lengths)
    counts = result.counts + Counter(duplicate_tokens=left_out)
    return Encoded(result.tokens[:0], result.lengths[:0], NO_RUNS, counts, unknown=result.unknown)


def begun(result: Encoded) -> Encoded:
    """A result that comes where no document is open: an end alone, first in it, ends none, and has
    no place among its runs.
    """
    if not len(result.lengths) or result.lengths[0] > 1:
        return result
    weights = None if result.weights is None else result.weights[1:]
    return replace(result, tokens=result.tokens[1:], lengths=result.lengths[1:], weights=weights)
