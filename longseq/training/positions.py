"""The validation loss by place in the sequence: does a network use its length?

    places = Places(feed.spans(length), length, device)
    places.add(losses, counts)                   # each micro batch's, of this rank
    places.means(replicas)                       # {"loss_after_1": 1.9, …}, a collective

A token's place is the number of tokens before it in its sample: 1, 2, 3 to 4, 5 to 8, … and
`loss_after_N` is the mean of those that end with N. Sums are over runs of neighbours, so that they
come out the same each time, also on a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from longseq.attention.zigzag import Spans
from longseq.parallel.collectives import all_reduce
from longseq.parallel.mesh import Group
from longseq.reports.runs import AFTER


def runs_of(spans: Spans, length: int) -> tuple[list[int], list[tuple[slice, int]]]:
    """The last place of each bin, and of a rank's tokens as they lie: (some of them, their bin)."""
    lasts = [1]
    while lasts[-1] < length:
        lasts.append(min(2 * lasts[-1], length))
    runs, at = [], 0
    for start, stop in spans:
        for number, last in enumerate(lasts):
            # The label of token p has p + 1 tokens before it
            low = max(start, lasts[number - 1] if number else 0)
            high = min(stop, last)
            if low < high:
                runs.append((slice(at + low - start, at + high - start), number))
        at += stop - start
    return lasts, runs


class Places:
    """Sums of weighted losses, and of weights, by bin."""

    def __init__(self, spans: Spans, length: int, device: torch.device) -> None:
        self._lasts, self._runs = runs_of(spans, length)
        self._sums = torch.zeros(2, len(self._lasts), dtype=torch.float32, device=device)

    def add(self, losses: Tensor, weights: Tensor) -> None:
        """losses [s, b] and weights [s, b] of this rank's part of a micro batch."""
        both = torch.stack(((losses * weights).sum(1), weights.sum(1)))
        for rows, number in self._runs:
            self._sums[:, number] += both[:, rows].sum(1)

    def means(self, replicas: Group) -> dict[str, float]:
        """Nats, over the tokens of all ranks; a bin without a token is left out."""
        losses, counts = all_reduce(self._sums, replicas).tolist()
        return {
            f"{AFTER}{last}": loss / count
            for last, loss, count in zip(self._lasts, losses, counts, strict=True)
            if count
        }
