"""`longseq embed`: what a trained network makes of each record: the states behind a layer.

    longseq embed RUN genes.fa --output genes.npy        # a row a record, the mean of its tokens
    longseq embed RUN genes.fa --layer 2 --per-token --output genes.parquet
    longseq embed RUN genome.fa --window 8192 --stride 4096 --output genome.npy

Rows are float32. A .parquet holds the records' names beside them; beside X.npy lies X.records.tsv,
with each record's rows. Layer n is what leaves the n-th layer, 0 the embeddings; without --layer it
is what the head works on, behind the last norm.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from longseq.checkpoint.trained import find_trained
from longseq.config.flags import Parser
from longseq.errors import UserError
from longseq.inference.embedding.states import check_table, open_states, table_beside
from longseq.inference.flags import add_computing, network_config, read_computing
from longseq.inference.outputs import Output, check_outputs
from longseq.inference.progress import progress
from longseq.inference.ranks import on_ranks, warner
from longseq.inference.score import Asked, add_files, add_window, check_window, readers
from longseq.inference.windows import cutting
from longseq.parallel.agreement import Ranks
from longseq.reports.format import counted

if TYPE_CHECKING:
    import torch


def add_arguments(parser: Parser) -> None:
    """The arguments of `longseq embed`."""
    add_computing(parser)
    add_files(parser, "+", "FASTA, FASTQ, …, or prefixes of prepared data")
    add_window(parser)
    parser.add_argument(
        "--layer", type=int, metavar="N",
        help="states behind the N-th layer, 0: the embeddings; without it: behind the last norm",
    )  # fmt: skip
    parser.add_argument("--per-token", action="store_true", help="a row a token, not their mean")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="a .npy or .parquet"
    )
    parser.set_defaults(run_verb=embed)


def embed(options: argparse.Namespace) -> int:
    """`longseq embed`: returns the exit code, raises UserError."""
    layout, computing = read_computing(options)
    check_window(options)
    beside = table_beside(options.output)
    output = Output("--output", options.output, (".npy", ".parquet"), beside)
    check_outputs(options.run, options.files, output)
    check_table(options.output, beside)

    def look(ranks: Ranks) -> Asked:
        trained = find_trained(options.run, warner(ranks), ranks, hashes=not computing.dry_run)
        config = network_config(trained, layout, computing, ranks.size)
        layers = trained.network.num_layers
        if options.layer is not None and not 0 <= options.layer <= layers:
            raise UserError(
                f"--layer {options.layer}: {trained.name} has layers 1 to {layers}: give one of"
                " them, 0 for the embeddings, or leave it out"
            )
        cuts = cutting(config.network, options.window, options.stride)
        return Asked(trained, config, cuts, *readers(trained, options, options.files))

    def work(asked: Asked, device: torch.device, ranks: Ranks) -> None:
        _embed(asked, options, device, ranks)

    return on_ranks(computing, look, work)


def _embed(asked: Asked, options: argparse.Namespace, device: torch.device, ranks: Ranks) -> None:
    from longseq.inference.embedding.rows import embedded
    from longseq.inference.network import make_ready

    reader, layer = asked.reader, options.layer
    ready = make_ready(asked.trained, asked.config, device, ranks)
    with ExitStack() as stack:
        path = None if ranks.rank else options.output
        output = stack.enter_context(open_states(path, asked.config.network.hidden_size))
        advance = stack.enter_context(progress("embedding", reader.total, ranks.rank))
        records = 0
        for name, states, last in embedded(ready, reader, asked.cuts, layer, options.per_token):
            output.add(name, states, last)
            records += last
            advance(reader.done, counted(records, "record"))
    for said in filter(None, (reader.said_of_unknown(), reader.names.said())):
        warner(ranks)(said)
    if reader.left_out:
        said = counted(reader.left_out, "letter", "was", "were")
        warner(ranks)(f"{said} left out: behind the last whole token of a record")
