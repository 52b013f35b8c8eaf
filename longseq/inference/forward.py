"""Windows → the loss of each token, over all ranks.

    for sequence, losses in scored(ready, sequences, cutting): …     # losses [n] fp32, nats

Ranks that share a sample (tensor parallel, Ulysses, ring) work on the same windows, each on its
tokens; data-parallel ranks take windows in turn. Every rank gets every loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from longseq.attention.zigzag import held_spans
from longseq.inference import sequences
from longseq.inference.network import Ready
from longseq.inference.windows import Cutting, Losses, Window

Batch = list[Window]


def scored(
    ready: Ready, records: Iterable[sequences.Sequence], cutting: Cutting
) -> Iterator[tuple[sequences.Sequence, Losses]]:
    """Each record with the loss of its tokens [n], in their order."""
    begin = ready.trained.tokenizer.end_of_document
    waiting: list[tuple[sequences.Sequence, int]] = []  # records, and their windows to come

    def all_windows() -> Iterator[Window]:
        for record in records:
            found = list(cutting.windows(record.name, record.tokens, begin))
            waiting.append((record, len(found)))
            yield from found

    done: list[Losses] = []
    for window, losses in in_turn(ready, all_windows()):
        done.append(losses[window.context :])
        record, count = waiting[0]
        if len(done) == count:
            yield record, np.concatenate(done)
            del waiting[0]
            done = []


def in_turn(ready: Ready, windows: Iterator[Window]) -> Iterator[tuple[Window, Losses]]:
    """Each window with the loss of its labels [n]; a round is a batch for each data-parallel
    rank.
    """
    config = ready.config
    budget = config.training.micro_batch_size * ready.length
    batches = in_batches(windows, budget)
    while turn := list(islice(batches, ready.mesh.dp.size)):
        mine = ready.mesh.dp.rank
        piece: Any = None
        if mine < len(turn):
            spans, losses = rank_losses(ready, turn[mine])
            if ready.mesh.tp.rank == 0:
                piece = mine, spans, losses
        found = [np.zeros((len(b), _longest(b)), np.float32) for b in turn]
        for part in ready.ranks.gather(piece):
            if part is not None:
                number, spans, losses = part
                _put(found[number], spans, losses)
        for batch, rows in zip(turn, found, strict=True):
            for window, row in zip(batch, rows, strict=True):
                yield window, row[: len(window.labels)]


def in_batches(windows: Iterable[Window], budget: int) -> Iterator[Batch]:
    """Windows that follow each other, at most `budget` tokens of the longest one's length."""
    batch: Batch = []
    longest = 0
    for window in windows:
        longest = max(longest, len(window.labels))
        if batch and longest * (len(batch) + 1) > budget:
            yield batch
            batch, longest = [], len(window.labels)
        batch.append(window)
    if batch:
        yield batch


def _longest(batch: Batch) -> int:
    return max(len(window.labels) for window in batch)


def _put(rows: Losses, spans: list[tuple[int, int]], losses: Losses) -> None:
    """What a rank has found, [b, tokens of its spans], into rows [b, n]; padding is left out."""
    at = 0
    for start, stop in spans:
        kept = min(stop, rows.shape[1]) - start
        if kept > 0:
            rows[:, start : start + kept] = losses[:, at : at + kept]
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
