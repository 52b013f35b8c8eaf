"""What is evaluated: the part that a run held out, or files; and what baselines may learn from.

given = held_out(trained, "valid")        # of RUN/held_out.tsv
given = from_files(learner, reader, ["new.fa"])
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from longseq.checkpoint.trained import Trained, same_tokens
from longseq.data.datasets import Dataset, open_datasets
from longseq.data.indexed.document_table import CODON_START, ENDING, read_documents
from longseq.data.indexed.format import Tokens
from longseq.data.prepare.recipe import Recipe
from longseq.data.sources.annotation.features import CODING, kinds_of
from longseq.data.sources.names import first_word
from longseq.data.tokenizers.tagged import untagged, without_tags
from longseq.errors import UserError
from longseq.inference.evaluation.seen import K
from longseq.inference.sequences import Reader, Sequence, document
from longseq.reports.format import counted

MOST = 1 << 24  # tokens of the training part that baselines learn from
BLOCK = 1 << 20  # tokens of the rest that are read at once
SHARED = K - 1  # tokens that one block has with the next
Span = tuple[Dataset, int, int]  # from a token to before another, of all of the data
Frame = int | None
NO_GENE = -1


@dataclass(frozen=True)
class Given:
    """Records to evaluate, and runs of tokens that were trained on (none: not known).

    frames: of each record that is a gene, how many letters stand before its first whole codon; None
    where nothing is said of it, NO_GENE where it is said to be something else, or its frame is not
    known. frameless: data with coding sequences of unknown frame. note: what is to be known of it.
    more: what was trained on behind `train`, read when it is asked for; each run of tokens begins
    with the last of the one before, so that no word is lost between them. learned: how many tokens
    (bytes of files) all of it has.
    """

    name: str
    records: list[Sequence]
    train: list[Tokens]
    frames: list[Frame]
    frameless: str = ""
    note: str = ""
    more: Iterable[Tokens] = ()
    learned: int = 0

    @property
    def has_genes(self) -> bool:
        """Whether some record is one."""
        return any(frame not in (None, NO_GENE) for frame in self.frames)


def held_out(trained: Trained, part: str) -> Given:
    """The part "valid" or "test" that the run of a checkpoint kept from its training."""
    table = trained.path.resolve().parent.parent / "held_out.tsv"
    try:
        with table.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except OSError as error:
        raise UserError(
            f"{table}: {error.strerror}: name files to evaluate, or a run's folder"
        ) from None
    found: list[tuple[Sequence, Frame]] = []
    learned: list[Span] = []
    frameless = ""
    for prefix in dict.fromkeys(row["data"] for row in rows):
        if not os.path.exists(f"{prefix}.idx"):
            raise UserError(
                f"{prefix}, the data that the run held records out of ({table}), is not there: put"
                " it back, or name files to evaluate behind RUN"
            )
        (dataset,) = open_datasets(prefix, unsaid=trained.tokenizer)
        same_tokens(trained, dataset.tokenizer, prefix)
        of_data = [row for row in rows if row["data"] == prefix]
        last, there = max(int(row["document"]) for row in of_data), dataset.tokens.num_documents
        if last >= there:
            raise UserError(
                f"{prefix} has {counted(there, 'document')}, and {table} names its document {last}:"
                " these are other data: put those back, or name files to evaluate behind RUN"
            )
        frames, known = _frames(dataset)
        frameless = frameless or ("" if known else prefix)
        for row in of_data:
            if row["part"] == part:
                frame = _cut(dataset, frames[int(row["document"])], row["tokens"])
                found.append((_record(dataset, row), frame))
        learned += [(dataset, *span) for span in _rest(dataset, of_data)]
    found = [(record, frame) for record, frame in found if record.letters]
    if not found:
        raise UserError(f"--part {part}: the run held out no such records: name files to evaluate")
    records, of_each = map(list, zip(*found, strict=True))
    train, rest = _divided(learned)
    size = sum(stop - start for _, start, stop in learned)
    name = f"{part} part of the run's data"
    return Given(name, records, train, of_each, frameless, more=_blocks(rest), learned=size)


def _frames(dataset: Dataset) -> tuple[list[Frame], bool]:
    """Of each document, as Given has them; and whether those of all genes are known."""
    manifest, count = dataset.manifest, dataset.tokens.num_documents
    made = manifest.options if manifest is not None else {}
    featured = manifest is not None and ENDING in manifest.files
    if not (made.get("genes") or (featured and CODING in kinds_of(made.get("features", "")))):
        return [None] * count, True
    letters = untagged(dataset.tokenizer).specification
    in_codons = Recipe(letters).in_codons  # documents that begin with a whole one
    if manifest and manifest.counts.get("ambiguous_left_out") and not in_codons:  # cut anywhere
        return [NO_GENE] * count, False
    if made.get("genes"):
        return [0] * count, True
    frames: list[Frame] = []
    known = True
    for row in read_documents(dataset.prefix):
        start = "1" if in_codons else row.facts.get(CODON_START, "")
        coding = row.feature == CODING
        known &= bool(start) or not coding
        frames.append(int(start) - 1 if coding and start else NO_GENE)
    return frames, known


def _cut(dataset: Dataset, frame: Frame, tokens: str) -> Frame:
    """That of a part of a document, which the list in force writes LOW-HIGH."""
    if frame is None or frame == NO_GENE or tokens == "all":
        return frame
    bases = getattr(dataset.tokenizer, "bases", 1)
    return (frame - bases * int(tokens.partition("-")[0])) % 3


def _span(dataset: Dataset, row: dict[str, str]) -> tuple[int, int]:
    """The tokens of a row of the table, among all of the data."""
    start, stop = (int(at) for at in dataset.tokens.document_offsets[int(row["document"]) :][:2])
    if row["tokens"] != "all":
        low, _, high = row["tokens"].partition("-")
        start, stop = start + int(low), start + int(high) + 1
    return start, stop


def _record(dataset: Dataset, row: dict[str, str]) -> Sequence:
    start, stop = _span(dataset, row)
    tokens = dataset.tokens.read(start, stop - start)
    ended = len(tokens) > 0 and tokens[-1] == dataset.tokenizer.end_of_document
    tokens = tokens[: len(tokens) - int(ended)]
    name = first_word(row["record"]) or f"document-{row['document']}"
    name += "" if row["tokens"] == "all" else f":{row['tokens']}"
    return document(dataset.tokenizer, name, tokens)


def _rest(dataset: Dataset, rows: list[dict[str, str]]) -> list[tuple[int, int]]:
    """What lies between the spans of the table, of the tokens of all of the data."""
    found: list[tuple[int, int]] = []
    at = 0
    for start, stop in [
        *sorted(_span(dataset, row) for row in rows),
        (dataset.tokens.num_tokens,) * 2,
    ]:
        if start > at:
            found.append((at, start))
        at = stop
    return found


def _divided(spans: list[Span]) -> tuple[list[Tokens], list[Span]]:
    """The first MOST tokens of spans, without tags, and where the others are."""
    found: list[Tokens] = []
    rest: list[Span] = []
    left = MOST
    for dataset, start, stop in spans:
        cut = min(stop, start + left)
        left -= cut - start
        if cut > start:
            read = dataset.tokens.read(start, cut - start)
            found.append(without_tags(dataset.tokenizer, read))
        if cut < stop:
            rest.append((dataset, max(start, cut - SHARED), stop))
    return found, rest


def _blocks(spans: list[Span]) -> Iterator[Tokens]:
    """Their tokens, a block at a time, without tags."""
    for dataset, start, stop in spans:
        for at in range(start, stop, BLOCK):
            count = min(BLOCK + SHARED, stop - at)
            yield without_tags(dataset.tokenizer, dataset.tokens.read(at, count))


def from_files(learner: Reader, reader: Reader, files: list[str], read: bool = True) -> Given:
    """All records of files or prepared data; `learner`: what baselines learn from.

    Without `read` no file is read, and there are none.
    """
    learned: list[Tokens] = []
    left = MOST
    more: Iterator[Tokens] = (record.tokens[record.tags :] for record in (learner if read else ()))
    for tokens in more:
        learned.append(tokens[:left])
        if len(tokens) >= left:
            more = chain((tokens[max(0, left - SHARED) :],), more)
            break
        left -= len(tokens)
    frames: list[Frame] = []
    frameless = ""
    for dataset in reader.datasets:
        some, known = _frames(dataset)
        frames += some
        frameless = frameless or ("" if known else dataset.prefix)
    records = list(reader if read else ())
    frames = frames if reader.datasets and read else [None] * len(records)
    note = "; ".join(filter(None, (reader.said_of_unknown(), reader.names.said())))
    size = learner.total
    return Given(", ".join(files), records, learned, frames, frameless, note, more, size)
