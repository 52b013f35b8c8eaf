"""`longseq evaluate`: what a network has learned, beside what knows nothing of it.

    longseq evaluate RUN --genes --picture evaluation.svg          what the run held out
    longseq evaluate RUN new.fa --train old.fa --json figures.json

Loss by the number of tokens that stand before (does the network use its length?), by record, by
codon position, and on the same letters Markov models, whose order is chosen on the end of the
training part, and compressors.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longseq.checkpoint.trained import Trained, find_trained
from longseq.config.arguments import Config
from longseq.config.flags import Parser
from longseq.data.samples.entropy import Labels, markov
from longseq.data.tokenizers.base import SequenceTokenizer
from longseq.data.tokenizers.tagged import untagged
from longseq.errors import UserError
from longseq.host.atomic_files import reason, replace_file, unwritable
from longseq.inference.evaluation.baselines import compression
from longseq.inference.evaluation.genes import LETTER, letters_a_token, of_genes
from longseq.inference.evaluation.held_out import Given, from_files, held_out
from longseq.inference.evaluation.losses import Found, network_losses
from longseq.inference.evaluation.picture import picture
from longseq.inference.evaluation.seen import seen
from longseq.inference.evaluation.told import tell, without_nan
from longseq.inference.flags import add_computing, network_config, read_computing
from longseq.inference.outputs import Output, check_outputs
from longseq.inference.progress import progress
from longseq.inference.ranks import on_ranks, warner
from longseq.inference.score import add_files, check_window, log_likelihood, readers
from longseq.inference.sequences import Sequence
from longseq.inference.windows import Cutting, Losses, cutting
from longseq.parallel.agreement import Ranks

if TYPE_CHECKING:
    import torch


def add_arguments(parser: Parser) -> None:
    """The arguments of `longseq evaluate`."""
    add_computing(parser)
    add = parser.add_argument
    add_files(parser, "*", "FASTA, …, or prepared data; else what RUN kept")
    add("--part", default="valid", choices=("valid", "test"), help="which part RUN kept (valid)")
    add(
        "--train", action="append", default=[], metavar="FILE",
        help="what baselines of FILE learn from; may be repeated",
    )  # fmt: skip
    add("--window", type=int, metavar="N", help="tokens seen at once (training length)")
    add("--stride", type=int, metavar="M", help="tokens between two windows (N / 2)")
    add(
        "--genes", action="store_true",
        help="those annotated, or called: by codon position, and against their codons shuffled",
    )  # fmt: skip
    add("--picture", type=Path, metavar="FILE", help="the figures drawn, a .svg")
    add("--json", type=Path, metavar="FILE", help="all figures, a .json")
    parser.set_defaults(run_verb=evaluate)


SEARCHED = 1 << 29  # tokens of a training part: for more the search takes more than minutes


@dataclass(frozen=True)
class Asked:
    """What is to be evaluated."""

    trained: Trained
    config: Config
    cuts: Cutting
    given: Given


def evaluate(options: argparse.Namespace) -> int:
    """`longseq evaluate`: returns the exit code, raises UserError."""
    layout, computing = read_computing(options)
    check_window(options)
    if options.train and not options.files:
        raise UserError("--train is for files: of its own data RUN knows what it was trained on")
    drawn = Output("--picture", options.picture, (".svg",))
    told = Output("--json", options.json, (".json",))
    check_outputs(options.run, [*options.files, *options.train], drawn, told)

    def look(ranks: Ranks) -> Asked:
        trained = find_trained(options.run, warner(ranks), ranks, hashes=not computing.dry_run)
        config = network_config(trained, layout, computing, ranks.size)
        window = options.window or config.network.seq_length
        cuts = cutting(config.network, window, options.stride)
        if options.genes:
            _check_genes(trained, warner(ranks))
        learner, reader = readers(trained, options, options.train, options.files)
        if options.files:
            given = from_files(learner, reader, options.files, not computing.dry_run)
        else:
            given = held_out(trained, options.part)
        if options.genes and given.frameless:
            raise UserError(
                f"--genes: {given.frameless} does not say where codons begin in its documents (made"
                " with --ambiguous split, or by a former version): prepare it again"
            )
        if given.note:
            warner(ranks)(given.note)
        return Asked(trained, config, cuts, given)

    def work(asked: Asked, device: torch.device, ranks: Ranks) -> None:
        figures = _all_figures(asked, device, ranks, call=options.genes)
        if ranks.rank == 0:
            _write(options, figures)  # first: the reader of what is printed may have gone
            tell(figures)

    return on_ranks(computing, look, work)


def _check_genes(trained: Trained, warn: Callable[[str], None]) -> None:
    """Refuse tokens of which no gene can be made, and say what those of codons do not tell."""
    tokens, size = trained.tokenizer.specification, letters_a_token(trained.tokenizer)
    if not size:
        raise UserError(
            f"--genes needs a token for each letter or for each codon (nucleotide, codon) and no"
            f" tags, and {trained.name} has {tokens}: leave it out"
        )
    if size != LETTER:
        warn(f"--genes: {tokens} has no token for each letter: no losses by codon position")


def _all_figures(asked: Asked, device: torch.device, ranks: Ranks, call: bool) -> dict[str, Any]:
    from longseq.inference.network import make_ready

    given, cuts = asked.given, asked.cuts
    ready = make_ready(asked.trained, asked.config, device, ranks)
    total = sum(len(record.tokens) for record in given.records)
    with progress("evaluating", total, ranks.rank) as advance:
        found = network_losses(ready, given.records, cuts, advance)
    genes = {}
    size = letters_a_token(asked.trained.tokenizer)
    if size and (call or (size == LETTER and given.has_genes)):
        genes = of_genes(ready, given, found, cuts, call)
    return {} if ranks.rank else _figures(asked.trained, given, found) | genes


def _figures(trained: Trained, given: Given, found: Found) -> dict[str, Any]:
    """All but those of genes."""
    letters = sum(record.letters for record in given.records)
    spelt = [record.tokens[record.tags :] for record in given.records]  # tags count nothing
    tokens = sum(map(len, spelt))
    scores = zip(given.records, found.each, strict=True)
    nats = -sum(log_likelihood(record, each)[0] for record, each in scores)
    a_token = letters / tokens
    bits = {"network": nats / math.log(2) / letters}
    figures: dict[str, Any] = {
        "checkpoint": trained.name,
        "evaluated": given.name,
        "date": date.today().isoformat(),
        "records": len(given.records),
        "letters": letters,
        "tokens": tokens,
        "letters_a_token": a_token,
        "baselines_learned_from_tokens": sum(map(len, given.train)),
        "bits_per_letter": bits,
        "by_position": found.by_position.bins(),
        "by_record": [
            {
                "record": record.name,
                "tokens": len(each) - record.tags,
                "bits_per_letter": _bits(record, each),
            }
            for record, each in zip(given.records, found.each, strict=True)
        ],
    }
    if given.train:
        orders, chosen = markov([*map(Labels, given.train)], [*map(Labels, spelt)])
        orders = {order: value / a_token for order, value in orders.items()}
        figures["markov"] = {"orders": {str(k): v for k, v in orders.items()}, "chosen": chosen}
        for order in sorted({min(2, max(orders)), chosen}):
            name = "Markov, order" if order != chosen else "Markov, chosen order"
            bits[f"{name} {order}"] = orders[order]
    inner = untagged(trained.tokenizer)
    spell = inner.spelled if isinstance(inner, SequenceTokenizer) else inner.decode
    judged = [spell(tokens).encode() for tokens in spelt]
    train = [inner.decode(tokens).encode() for tokens in given.train]
    bits |= compression(b"".join(train), b"".join(judged), letters)
    if train:
        rest = (inner.decode(tokens).encode() for tokens in given.more)
        figures |= _seen(given.learned, chain(train, rest), judged)
    return figures


def _seen(learned: int, train: Iterable[bytes], judged: list[bytes]) -> dict[str, Any]:
    """How much of it was trained on, or why that is not known."""
    unknown = f"it has more than {SEARCHED:,} tokens" if learned > SEARCHED else ""
    share = None
    try:
        share = None if unknown else seen(train, judged)
    except UserError as error:  # of a record far behind, once all else is known
        unknown = str(error)
    return {"seen_in_training_part": share} | ({"seen_unknown": unknown} if unknown else {})


def _bits(record: Sequence, losses: Losses) -> float:
    likelihood, letters = log_likelihood(record, losses)
    return -likelihood / math.log(2) / max(1, letters)


def _write(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    clean = without_nan(figures)
    for path, text in (
        (options.json, lambda: json.dumps(clean, indent=1, allow_nan=False) + "\n"),
        (options.picture, lambda: picture(clean)),
    ):
        if path is not None:
            try:
                replace_file(path, text())
            except OSError as error:
                raise unwritable(f"{path} cannot be written: {reason(error)}", error) from None
