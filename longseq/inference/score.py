"""`longseq score`: how likely a trained network finds each record.

    longseq score RUN genes.fa > scores.tsv
    longseq score RUN genome.fa --window 8192 --stride 4096 --per-position each.parquet
    longseq score RUN reference.fa --variants calls.vcf

A record's log-likelihood is Σ w log p(token | those before it) in nats, its bits per base are
- log-likelihood / (ln 2 · letters), with letters weighed by w as well where weights are asked for.
Tags stand for no letter and are in neither sum.
"""

from __future__ import annotations

import argparse
import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longseq.checkpoint.trained import Trained, find_trained
from longseq.config.arguments import Config
from longseq.config.flags import Parser
from longseq.data.input_flags import add_column_flags, check_column_flags
from longseq.data.sources.tables import Columns
from longseq.data.tokenizers.base import Tokenizer
from longseq.errors import UserError
from longseq.inference.flags import add_computing, network_config, read_computing
from longseq.inference.outputs import Output, check_outputs
from longseq.inference.progress import progress
from longseq.inference.ranks import on_ranks, warner
from longseq.inference.sequences import Reader, Sequence, Weighing
from longseq.inference.tables import SUFFIXES, Nothing, Table, open_table
from longseq.inference.variants import COLUMNS as VARIANTS
from longseq.inference.variants import (
    Reference,
    Told,
    check_variants,
    notes,
    reference_of,
    variant_rows,
)
from longseq.inference.vcf import read_variants
from longseq.inference.windows import Cutting, Losses, cutting
from longseq.parallel.agreement import Ranks
from longseq.reports.format import counted

if TYPE_CHECKING:
    import torch

    from longseq.inference.network import Ready

RECORDS = {
    "record": str, "letters": int, "tokens": int, "log_likelihood": float, "bits_per_base": float,
}  # fmt: skip
ALL = Weighing()  # every token counts 1
POSITIONS = {"record": str, "position": int, "token": str, "log_likelihood": float}


def add_arguments(parser: Parser) -> None:
    """The arguments of `longseq score`."""
    add_computing(parser)
    add_reading(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="a .tsv or .parquet; else TSV on the screen"
    )
    parser.add_argument(
        "--per-position", type=Path, metavar="FILE",
        help="each token's log-likelihood: a .tsv, .parquet or .npy (float32, records in order)",
    )  # fmt: skip
    parser.add_argument(
        "--variants", type=Path, metavar="FILE",
        help="score a VCF's alternatives against FILE, its reference, in windows",
    )  # fmt: skip
    parser.set_defaults(run_verb=score)


def add_reading(parser: Parser) -> None:
    """What is read, how long records are cut, what letters count for."""
    add_files(parser, "+", "FASTA, FASTQ, …, or prefixes of prepared data")
    add_window(parser)
    parser.add_argument(
        "--lower-case-weight", type=float, default=1.0, metavar="W",
        help="what lower-case letters of a file count for (1)",
    )  # fmt: skip
    parser.add_argument(
        "--unknown-weight", type=float, default=1.0, metavar="W",
        help="what letters of a file other than ACGT count for (1)",
    )  # fmt: skip
    parser.add_argument(
        "--weighted", action="store_true", help="tokens count for what prepared data say"
    )


def add_files(parser: Parser, number: str, what: str) -> None:
    """The arguments FILE, and the columns of those that are tables."""
    parser.add_argument("files", nargs=number, metavar="FILE", help=what)
    add_column_flags(parser)


def readers(
    trained: Trained, options: argparse.Namespace, *names: list[str], counts: Weighing = ALL
) -> list[Reader]:
    """One for each of `names`; raises UserError where columns are named and nothing is a table."""
    columns = Columns(options.column, options.name_column)
    found = [Reader(trained, some, counts, columns) for some in names]
    check_column_flags(options, tuple(path for reader in found for path in reader.paths))
    return found


def add_window(parser: Parser) -> None:
    """How longer records are cut."""
    parser.add_argument(
        "--window", type=int, metavar="N", help="tokens of longer records seen at once"
    )
    parser.add_argument(
        "--stride", type=int, metavar="M",
        help="tokens from one window to the next; the rest of a window is context (N / 2)",
    )  # fmt: skip


def weighing(options: argparse.Namespace) -> Weighing:
    """What tokens count for; UserError for a weight that is none."""
    for name in ("lower_case_weight", "unknown_weight"):
        value = getattr(options, name)
        if not 0 <= value <= 1:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} {value:g}: give a number from 0 to 1")
    return Weighing(options.lower_case_weight, options.unknown_weight, options.weighted)


def check_window(options: argparse.Namespace) -> None:
    """Refuse numbers that mean nothing."""
    for name in ("window", "stride"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: give a number of tokens above 0, or leave it out")


@dataclass(frozen=True)
class Asked:
    """Of which network, how cut, and what is read."""

    trained: Trained
    config: Config
    cuts: Cutting
    reader: Reader


@dataclass(frozen=True)
class Scoring(Asked):
    """What is to be scored; `reference` and the count of alternatives where these are."""

    reference: Reference
    alternatives: int


def score(options: argparse.Namespace) -> int:
    """`longseq score`: returns the exit code, raises UserError."""
    layout, computing = read_computing(options)
    check_window(options)
    table = Output("--output", options.output, SUFFIXES[:2])
    each = Output("--per-position", options.per_position, SUFFIXES)
    variants = [str(options.variants)] if options.variants else []
    check_outputs(options.run, [*options.files, *variants], table, each)
    counts_for = weighing(options)
    if options.variants:
        _check_variants(options)

    def look(ranks: Ranks) -> Scoring:
        trained = find_trained(options.run, warner(ranks), ranks, hashes=not computing.dry_run)
        config = network_config(trained, layout, computing, ranks.size)
        cuts = cutting(config.network, options.window, options.stride)
        (reader,) = readers(trained, options, options.files, counts=counts_for)
        reference: Reference = {}
        count = 0
        if options.variants and computing.dry_run:  # a genome is read in a minute
            next(read_variants(options.variants), None)
        elif options.variants:
            reference = reference_of(reader)
            bases = getattr(trained.tokenizer, "bases", 1)
            fasta = ", ".join(options.files)
            count = check_variants(options.variants, reference, fasta, cuts, bases)
        return Scoring(trained, config, cuts, reader, reference, count)

    def work(asked: Scoring, device: torch.device, ranks: Ranks) -> None:
        from longseq.inference.network import make_ready

        ready = make_ready(asked.trained, asked.config, device, ranks)
        if options.variants:
            _score_variants(ready, asked, options)
        else:
            _score_records(ready, asked, options)
        if said := asked.reader.said_of_unknown("; --unknown-weight 0 counts none of them"):
            warner(ranks)(said)
        if said := asked.reader.names.said():
            warner(ranks)(said)
        if left_out := asked.reader.left_out:
            warner(ranks)(
                f"{counted(left_out, 'letter', 'was', 'were')} not scored: behind the last whole"
                " token of a record"
            )

    return on_ranks(computing, look, work)


def _score_records(ready: Ready, asked: Scoring, options: argparse.Namespace) -> None:
    from longseq.inference.forward import scored

    ranks, tokenizer, reader = ready.ranks, ready.trained.tokenizer, asked.reader
    names, weightless = tokenizer.names(), 0
    with ExitStack() as stack:
        table = _table(stack, options.output, RECORDS, ranks)
        each: Table = Nothing(POSITIONS)
        if options.per_position:
            each = _table(stack, options.per_position, POSITIONS, ranks)
        advance = stack.enter_context(progress("scoring", reader.total, ranks.rank))
        for number, (sequence, losses) in enumerate(scored(ready, reader, asked.cuts), 1):
            row = _row(sequence, losses)
            weightless += math.isnan(row["bits_per_base"][0])
            table.add(row)
            each.add(_positions(sequence, losses, tokenizer, names))
            advance(reader.done, counted(number, "record"))
    if weightless:
        said = counted(weightless, "record")
        warner(ranks)(f"{said} had no letter that counts: bits per base nan")


def _check_variants(options: argparse.Namespace) -> None:
    """Refuse what says nothing about variants."""
    given = {
        "--per-position": options.per_position,
        "--stride": options.stride,
        "--weighted": options.weighted,
        "--lower-case-weight": options.lower_case_weight != 1,
        "--unknown-weight": options.unknown_weight != 1,
    }
    for flag, value in given.items():
        if value:
            raise UserError(f"{flag} and --variants exclude each other: leave one out")


def _score_variants(ready: Ready, asked: Scoring, options: argparse.Namespace) -> None:
    size, reader = asked.cuts.size or asked.cuts.length, asked.reader
    told = Told()
    with ExitStack() as stack:
        table = _table(stack, options.output, VARIANTS, ready.ranks)
        advance = stack.enter_context(progress("scoring", asked.alternatives, ready.ranks.rank))
        rows = variant_rows(ready, asked.reference, options.variants, size, reader.tokens, told)
        for number, row in enumerate(rows, 1):
            table.add(row)
            advance(number, counted(number, "variant"))
    reader.left_out = 0  # at the ends of flanks; where alleles differ in it, notes say so
    for note in notes(told, ready.trained.tokenizer.specification):
        warner(ready.ranks)(note)


def _table(stack: ExitStack, path: Path | None, columns: dict[str, type], ranks: Ranks) -> Table:
    if ranks.rank:
        return Nothing(columns)
    return stack.enter_context(open_table(path, columns))


def _row(sequence: Sequence, losses: Losses) -> dict[str, list[Any]]:
    likelihood, letters = log_likelihood(sequence, losses)
    return {
        "record": [sequence.name],
        "letters": [sequence.letters],
        "tokens": [len(losses)],
        "log_likelihood": [likelihood],
        "bits_per_base": [-likelihood / math.log(2) / letters if letters else math.nan],
    }


def log_likelihood(sequence: Sequence, losses: Losses) -> tuple[float, float]:
    """Of a record, in nats, and the letters that count for it, both without its tags."""
    spelt = losses[sequence.tags :].astype(np.float64)
    if sequence.weights is None:
        return 0.0 - float(spelt.sum()), float(sequence.letters)
    weights = sequence.weights[sequence.tags :].astype(np.float64)
    a_token = sequence.letters / max(1, len(spelt))
    return 0.0 - float(weights @ spelt), float(weights.sum()) * a_token  # 0.0 - 0.0 is no -0.0


def _positions(
    sequence: Sequence, losses: Losses, tokenizer: Tokenizer, names: list[str]
) -> dict[str, Any]:
    """position: of the first letter that a token stands for, counted from 1; 0 for tags."""
    sizes = tokenizer.sizes(sequence.tokens)
    position = np.cumsum(sizes) - sizes + 1
    position[: sequence.tags] = 0
    return {
        "record": [sequence.name] * len(losses),
        "position": position,
        "token": [names[token] for token in sequence.tokens.tolist()],
        "log_likelihood": -losses.astype(np.float64),
    }
