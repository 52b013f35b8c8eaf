"""`longseq embed`: what a trained network makes of each record: the states behind a layer.

    longseq embed RUN genes.fa --output genes.npy        # a row a record, the mean of its tokens
    longseq embed RUN genes.fa --layer 2 --per-token --output genes.parquet

Rows are float32. A .parquet holds the records' names beside them; beside X.npy lies X.records.tsv,
with each record's rows. Layer n is what leaves the n-th layer, 0 the embeddings; without --layer it
is what the head works on, behind the last norm.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from longseq.attention.zigzag import Spans
from longseq.checkpoint.trained import find_trained
from longseq.config.flags import Parser
from longseq.errors import EXIT_DONE, UserError
from longseq.inference import sequences
from longseq.inference.embedding.states import open_states
from longseq.inference.flags import add_computing, read_computing
from longseq.inference.forward import place
from longseq.inference.network import Ready, make_ready
from longseq.inference.progress import progress
from longseq.inference.ranks import on_ranks, warner
from longseq.inference.sequences import Reader, Weighing
from longseq.inference.tables import check_output
from longseq.model.context import Context
from longseq.model.layers import Layer
from longseq.parallel.agreement import Ranks

States = npt.NDArray[np.float32]


def add_arguments(parser: Parser) -> None:
    """The arguments of `longseq embed`."""
    add_computing(parser)
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="FASTA, FASTQ, …, or prefixes of prepared data"
    )
    parser.add_argument(
        "--layer", type=int, default=-1, metavar="N", help="0: the embeddings; without it: all"
    )
    parser.add_argument("--per-token", action="store_true", help="a row a token, not their mean")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="a .npy or .parquet"
    )
    parser.set_defaults(run_verb=embed)


def embed(options: argparse.Namespace) -> int:
    """`longseq embed`: returns the exit code, raises UserError."""
    layout, computing = read_computing(options)
    check_output("--output", options.output, (".npy", ".parquet"))

    def work(device: torch.device, ranks: Ranks) -> int:
        trained = find_trained(options.run, warner(ranks), ranks)
        layers = trained.network.num_layers
        if not -1 <= options.layer <= layers:
            raise UserError(f"--layer {options.layer}: {trained.name} has layers 1 to {layers}")
        reader = Reader(trained, options.files, Weighing())
        ready = make_ready(trained, layout, computing, device, ranks)
        with ExitStack() as stack:
            path = None if ranks.rank else options.output
            output = stack.enter_context(open_states(path, ready.config.network.hidden_size))
            advance = stack.enter_context(progress("embedding", reader.total, ranks.rank))
            for number, (name, states) in enumerate(
                embedded(ready, reader, options.layer, options.per_token), 1
            ):
                output.add(name, states)
                advance(reader.done, f"{number:,} records")
        if reader.left_out:
            warner(ranks)(f"{reader.left_out:,} letters behind a last whole token were left out")
        return EXIT_DONE

    return on_ranks(computing, work)


def embedded(
    ready: Ready, records: Iterable[sequences.Sequence], layer: int, per_token: bool
) -> Iterator[tuple[str, States]]:
    """Each record's name and states, [n, h] or their mean [1, h], on every rank.

    Data-parallel ranks take records in turn; those that share one give what they hold of it.
    """
    mesh, waiting = ready.mesh, iter(records)
    while turn := list(islice(waiting, mesh.dp.size)):
        piece: Any = None
        if mesh.dp.rank < len(turn):
            spans, mine = _rank_states(ready, turn[mesh.dp.rank], layer)
            if mesh.tp.rank == 0:
                piece = mesh.dp.rank, spans, mine if per_token else _sum(mine)
        pieces = [found for found in ready.ranks.gather(piece) if found is not None]
        for number, record in enumerate(turn):
            count = len(record.tokens)
            parts = [(spans, mine) for of, spans, mine in pieces if of == number]
            if per_token:
                states = np.zeros((count, parts[0][1].shape[1]), np.float32)
                for spans, mine in parts:
                    _put(states, spans, mine)
            else:
                states = np.sum([mine for _, mine in parts], axis=0) / count
            yield record.name, states.astype(np.float32)


def _sum(states: States) -> npt.NDArray[np.float64]:
    """[n, h] → [1, h]."""
    return states.sum(axis=0, dtype=np.float64, keepdims=True)


def _put(states: States, spans: Spans, mine: States) -> None:
    """A rank's states, one span behind the other, to where they belong in states [n, h]."""
    at = 0
    for start, stop in spans:
        states[start:stop] = mine[at : at + stop - start]
        at += stop - start


@torch.no_grad()
def _rank_states(ready: Ready, record: sequences.Sequence, layer: int) -> tuple[Spans, States]:
    """Which tokens of a record this rank holds, and their states [n, h] behind layer `layer`."""
    count = len(record.tokens)
    if count > ready.length:
        raise UserError(
            f"record {record.name} has {count:,} tokens and the network sees {ready.length:,} at"
            " once: cut it, or with rotary positions give --seq-length"
        )
    tokens, positions, spans = place(ready, [record.tokens])
    model, kept = ready.model, _Kept(layer)
    before, model.run_layers = model.run_layers, kept
    try:
        hidden = model.hidden(tokens, positions)
    finally:
        model.run_layers = before
    states = hidden if layer < 0 else kept.states
    whole = model.head.exchange.gather_tokens(states)[:, 0].float().cpu().numpy()
    held = np.concatenate([np.arange(start, stop) for start, stop in spans]) < count
    spans = [(start, min(stop, count)) for start, stop in spans if start < count]
    return spans, whole[held]


class _Kept:
    """Runs the layers as GPT does, and keeps what leaves one of them, [s, b, h]."""

    def __init__(self, layer: int) -> None:
        self.layer = layer
        self.states = torch.empty(0)

    def __call__(self, layers: Sequence[Layer], x: Tensor, context: Context) -> Tensor:
        for number, layer in enumerate(layers):
            if number == self.layer:
                break
            x = layer(x, context)
        self.states = x
        return x
