"""Windows → the loss of each token, over all ranks.

    for sequence, losses in scored(ready, sequences, cutting): …     # losses [n] fp32, nats

Ranks that share a sample (tensor parallel, Ulysses, ring) work on the same windows, each on its
tokens; data-parallel ranks take windows in turn. Every rank gets every loss.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from longseq.attention.zigzag import held_spans
from longseq.inference import sequences
from longseq.inference.network import Ready
from longseq.inference.windows import Cutting, Losses, Window

T = TypeVar("T")
B = TypeVar("B")
Batch = list[Window]
Found = npt.NDArray[np.float32]


def scored(
    ready: Ready, records: Iterable[sequences.Sequence], cutting: Cutting
) -> Iterator[tuple[sequences.Sequence, Losses]]:
    """Each record with the loss of its tokens [n], in their order."""
    begin = ready.trained.tokenizer.end_of_document
    done: list[Losses] = []
    parts = in_parts(records, cutting, begin, partial(in_turn, ready))
    for record, window, losses, last in parts:
        done.append(losses[window.context :])
        if last:
            yield record, np.concatenate(done)
            done = []


def in_parts(
    records: Iterable[sequences.Sequence],
    cutting: Cutting,
    begin: int,
    asked: Callable[[Iterator[Window]], Iterator[tuple[Window, T]]],
) -> Iterator[tuple[sequences.Sequence, Window, T, bool]]:
    """Each window of each record with what `asked` finds of it, and whether it is the last one."""
    waiting: deque[tuple[sequences.Sequence, bool]] = deque()  # windows that are being worked on

    def all_windows() -> Iterator[Window]:
        for record in records:
            found = list(cutting.windows(record.name, record.tokens, begin))
            for number, window in enumerate(found, 1):
                waiting.append((record, number == len(found)))
                yield window

    for window, found in asked(all_windows()):
        record, last = waiting.popleft()
        yield record, window, found, last


def in_turn(ready: Ready, windows: Iterator[Window]) -> Iterator[tuple[Window, Losses]]:
    """Each window with the loss of its labels [n]."""
    for batch, parts in shared(ready, in_batches(ready, windows), rank_losses):
        rows = np.zeros((len(batch), longest(batch)), np.float32)
        for spans, losses in parts:
            put(rows, spans, losses)
        for window, row in zip(batch, rows, strict=True):
            yield window, row[: len(window.labels)]


def shared(
    ready: Ready, batches: Iterable[B], compute: Callable[[Ready, B], T]
) -> Iterator[tuple[B, list[T]]]:
    """Each batch with what `compute` gives on the ranks that share it, on every rank.

    A round is a batch for each data-parallel rank; of tensor-parallel ranks the first one speaks.
    """
    rest, mine = iter(batches), ready.mesh.dp.rank
    while turn := list(islice(rest, ready.mesh.dp.size)):
        piece: tuple[int, T] | None = None
        if mine < len(turn):
            found = compute(ready, turn[mine])
            piece = (mine, found) if ready.mesh.tp.rank == 0 else None
        pieces = [part for part in ready.ranks.gather(piece) if part is not None]
        for number, batch in enumerate(turn):
            yield batch, [found for of, found in pieces if of == number]


def in_batches(ready: Ready, windows: Iterable[Window]) -> Iterator[Batch]:
    """Windows that follow each other, as many as are a micro batch, all as long as the longest."""
    budget = ready.config.training.micro_batch_size * ready.length
    batch: Batch = []
    most = 0
    for window in windows:
        most = max(most, len(window.labels))
        if batch and most * (len(batch) + 1) > budget:
            yield batch
            batch, most = [], len(window.labels)
        batch.append(window)
    if batch:
        yield batch


def longest(batch: Batch) -> int:
    """The most labels of a window."""
    return max(len(window.labels) for window in batch)


def put(rows: Found, spans: list[tuple[int, int]], found: Found) -> None:
    """What a rank has found, [b, tokens of its spans, …], into rows [b, n, …]; no padding."""
    at = 0
    for start, stop in spans:
        kept = min(stop, rows.shape[1]) - start
        if kept > 0:
            rows[:, start : start + kept] = found[:, at : at + kept]
        at += stop - start


@torch.no_grad()
def rank_losses(ready: Ready, batch: Batch) -> tuple[list[tuple[int, int]], Losses]:
    """The spans of tokens that this rank holds, and their losses [b, s of this rank]."""
    tokens, positions, spans = place(ready, [window.inputs for window in batch])
    labels, _, _ = place(ready, [window.labels for window in batch])
    hidden = ready.model.hidden(tokens, positions)
    losses = ready.model.head.losses(hidden, labels.t())
    return spans, losses.t().cpu().numpy()


def place(
    ready: Ready, rows: Sequence[npt.NDArray[Any]]
) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    """This rank's part of rows of tokens, [b, s], their positions [1, s], and where they lie.

    Rows are filled up behind, where no token of the record looks.
    """
    parts, mesh = ready.config.layout.sequence_parts, ready.mesh
    length = -(-max(len(row) for row in rows) // parts) * parts
    spans = held_spans(
        length, (mesh.ulysses.rank, mesh.ulysses.size), (mesh.ring.rank, mesh.ring.size)
    )
    mine = np.concatenate([np.arange(start, stop) for start, stop in spans])
    whole = np.zeros((len(rows), length), np.int64)
    for number, row in enumerate(rows):
        whole[number, : len(row)] = row
    tokens = torch.from_numpy(whole[:, mine]).to(ready.device)
    return tokens, torch.from_numpy(mine)[None].to(ready.device), spans
