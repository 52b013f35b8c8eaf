"""Records → the states behind a layer, on every rank.

for name, states in embedded(ready, records, layer=2, per_token=False): …    # [1, h] fp32
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from longseq.attention.zigzag import Spans
from longseq.errors import UserError
from longseq.inference import sequences
from longseq.inference.embedding.states import States
from longseq.inference.forward import place
from longseq.inference.network import Ready
from longseq.model.context import Context
from longseq.model.layers import Layer


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
