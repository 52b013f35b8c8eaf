"""Logits → the next token of each row.

    choice = Sampling(temperature=0.8, top_k=50, top_p=0.95)
    tokens = choice.next(logits, generators)      # [b, V] → [b]

Each row draws from its own generator, so that what it becomes does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """temperature 0: the likeliest token. top_k 0 and top_p 1: no token is left out.

    top_p keeps the likeliest tokens whose probabilities reach it (arXiv 1904.09751). `never` are
    tokens that must not come.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    never: tuple[int, ...] = ()

    def next(self, logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """The next tokens [b] on the CPU, from logits [b, V] and a generator for each row."""
        logits = logits.float().cpu()
        logits[:, list(self.never)] = -torch.inf
        if self.temperature == 0:
            return logits.argmax(-1)
        likely, order = self.probabilities(logits)
        drawn = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators])
        place = (likely.cumsum(-1) <= drawn[:, None]).sum(-1, keepdim=True)
        last = (likely > 0).sum(-1, keepdim=True) - 1  # where rounding leaves the sum below 1
        return order.gather(-1, torch.minimum(place, last))[:, 0]

    def probabilities(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Of tokens from the likeliest on, fp64 [b, V], and which tokens these are [b, V]."""
        below = logits.double() - logits.amax(-1, keepdim=True)  # 0 at most, by however little
        likely, order = (below / self.temperature).softmax(-1).sort(-1, descending=True)
        if self.top_k:
            likely[:, self.top_k :] = 0
            likely = likely / likely.sum(-1, keepdim=True)
        before = likely.cumsum(-1) - likely
        likely = likely.masked_fill(before >= self.top_p, 0)
        return likely / likely.sum(-1, keepdim=True), order
