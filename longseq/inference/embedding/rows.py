"""Records → the states behind a layer, on every rank.

    for name, states, last in embedded(ready, records, cuts, layer=2, per_token=True): …

Records are cut as `score` cuts them: a token has the state of the first window that holds it, and
what that window held before is context.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from longseq.inference import sequences
from longseq.inference.embedding.states import States
from longseq.inference.forward import Batch, in_batches, in_parts, longest, place, put, shared
from longseq.inference.network import Ready
from longseq.inference.windows import Cutting, Window
from longseq.model.context import Context
from longseq.model.layers import Layer


def embedded(
    ready: Ready,
    records: Iterable[sequences.Sequence],
    cuts: Cutting,
    layer: int | None,
    per_token: bool,
) -> Iterator[tuple[str, States, bool]]:
    """Rows of each record, [n, h], and whether they are its last: a window's tokens, or their mean.

    Window by window, so that no record's tokens are ever held together.
    """

    def asked(windows: Iterator[Window]) -> Iterator[tuple[Window, npt.NDArray[Any]]]:
        found = _token_rows if per_token else _sums
        return found(ready, windows, layer)

    begin = ready.trained.tokenizer.end_of_document  # before labels, and no input here
    total: Any = 0.0
    for record, _, found, last in in_parts(records, cuts, begin, asked):
        if per_token:
            yield record.name, found, last
            continue
        total = total + found
        if last:
            yield record.name, (total / len(record.tokens))[None].astype(np.float32), True
            total = 0.0


def _token_rows(
    ready: Ready, windows: Iterator[Window], layer: int | None
) -> Iterator[tuple[Window, States]]:
    """Each window with the states of the tokens that none before it has counted, [n, h]."""

    def compute(ready: Ready, batch: Batch) -> tuple[list[tuple[int, int]], States]:
        return _rank_states(ready, batch, layer)

    for batch, parts in shared(ready, in_batches(ready, windows), compute):
        rows = np.zeros((len(batch), longest(batch), parts[0][1].shape[2]), np.float32)
        for spans, states in parts:
            put(rows, spans, states)
        for window, row in zip(batch, rows, strict=True):
            yield window, row[window.context : len(window.labels)]


def _sums(
    ready: Ready, windows: Iterator[Window], layer: int | None
) -> Iterator[tuple[Window, npt.NDArray[np.float64]]]:
    """Each window with the sum of those, [h]: every rank adds up what it holds."""

    def compute(ready: Ready, batch: Batch) -> npt.NDArray[np.float64]:
        spans, states = _rank_states(ready, batch, layer)
        held = np.concatenate([np.arange(start, stop) for start, stop in spans])
        counted = [(held >= one.context) & (held < len(one.labels)) for one in batch]
        rows = zip(states, counted, strict=True)
        return np.stack([row[those].sum(axis=0, dtype=np.float64) for row, those in rows])

    for batch, parts in shared(ready, in_batches(ready, windows), compute):
        yield from zip(batch, np.sum(parts, axis=0), strict=True)


@torch.no_grad()
def _rank_states(
    ready: Ready, batch: Batch, layer: int | None
) -> tuple[list[tuple[int, int]], States]:
    """The spans of tokens that this rank and its tensor-parallel ones hold, their states [b, s, h].

    A window's labels are the record's own tokens: these are what the network reads here.
    """
    tokens, positions, spans = place(ready, [window.labels for window in batch])
    model, kept = ready.model, _Kept(layer)
    before, model.run_layers = model.run_layers, kept
    try:
        hidden = model.hidden(tokens, positions)
    finally:
        model.run_layers = before
    states = model.head.exchange.gather_tokens(hidden if layer is None else kept.states)
    return spans, states.transpose(0, 1).float().cpu().numpy()


class _Kept:
    """Runs the layers as GPT does, and keeps what leaves one of them, [s, b, h]."""

    def __init__(self, layer: int | None) -> None:
        self.layer = layer
        self.states = torch.empty(0)

    def __call__(self, layers: Sequence[Layer], x: Tensor, context: Context) -> Tensor:
        for number, layer in enumerate(layers):
            if number == self.layer:
                break
            x = layer(x, context)
        self.states = x
        return x
