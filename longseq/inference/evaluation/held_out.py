"""What is evaluated: the part that a run held out, or files; and what baselines may learn from.

given = held_out(trained, "valid")        # of RUN/held_out.tsv
given = from_files(trained, ["new.fa"], train=["old.fa"])
"""

from __future__ import annotations

import csv
from dataclasses import dataclass

from longseq.checkpoint.trained import Trained, same_tokens
from longseq.data.datasets import Dataset, open_datasets
from longseq.data.indexed.format import Tokens
from longseq.data.tokenizers.tagged import without_tags
from longseq.errors import UserError
from longseq.inference.sequences import Reader, Sequence, Weighing, document, short

MOST = 1 << 24  # tokens of the training part that baselines learn from


@dataclass(frozen=True)
class Given:
    """Records to evaluate, and runs of tokens that were trained on (none: not known).

    genes: each record is a gene from its first codon on.
    """

    name: str
    records: list[Sequence]
    train: list[Tokens]
    genes: bool = False


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
    records: list[Sequence] = []
    train: list[Tokens] = []
    genes = True
    for prefix in dict.fromkeys(row["data"] for row in rows):
        (dataset,) = open_datasets(prefix)
        same_tokens(trained, dataset.tokenizer, prefix)
        of_data = [row for row in rows if row["data"] == prefix]
        records += [_record(dataset, row) for row in of_data if row["part"] == part]
        train += _rest(dataset, of_data, MOST - sum(map(len, train)))
        made = dataset.manifest.options if dataset.manifest is not None else {}
        genes = genes and bool(made.get("genes"))
    records = [record for record in records if record.letters]
    if not records:
        raise UserError(f"--part {part}: the run held out no such records: name files to evaluate")
    return Given(f"{part} part of the run's data", records, train, genes)


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
    tokens = tokens[: len(tokens) - int(tokens[-1] == dataset.tokenizer.end_of_document)]
    name = short(row["record"]) or f"document-{row['document']}"
    name += "" if row["tokens"] == "all" else f":{row['tokens']}"
    return document(dataset.tokenizer, name, tokens)


def _rest(dataset: Dataset, rows: list[dict[str, str]], most: int) -> list[Tokens]:
    """What lies between the spans of the table, up to `most` tokens, without tags."""
    found: list[Tokens] = []
    at = 0
    for start, stop in [
        *sorted(_span(dataset, row) for row in rows),
        (dataset.tokens.num_tokens,) * 2,
    ]:
        count = min(start - at, most - sum(map(len, found)))
        if count > 0:
            found.append(without_tags(dataset.tokenizer, dataset.tokens.read(at, count)))
        at = stop
    return found


def from_files(trained: Trained, files: list[str], train: list[str], read: bool = True) -> Given:
    """All records of files or prepared data; `train`: what baselines learn from.

    Without `read` no file is read, and there are none.
    """
    learner, reader = (Reader(trained, names, Weighing()) for names in (train, files))
    learned: list[Tokens] = []
    for record in learner if read else ():
        learned.append(record.tokens[record.tags :])
        if sum(map(len, learned)) >= MOST:
            break
    made = [d.manifest.options if d.manifest is not None else {} for d in reader.datasets]
    genes = bool(made) and all(options.get("genes") for options in made)
    return Given(", ".join(files), list(reader if read else ()), learned, genes)
