"""Keys and values of the tokens so far, so that a new token costs one token's work.

    cache = Cache(model, rows=8, room=512)
    last = cache.prefill(tokens, lengths)       # prompts [b, s], filled up behind → [1, b, h]
    last = cache.step(tokens)                   # one more token of each row [b] → [1, b, h]
    model.head.logits(last)                     # of the tokens that may follow

It stands beside the network, at the place where layers are run (GPT.run_layers). Each row has its
own length, so that prompts of different lengths make one batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from longseq.model.context import Context
from longseq.model.gpt import GPT, RunLayers
from longseq.model.layers import Layer


class Cache:
    """For each layer keys and values [room, b, groups, d]; `lengths` [b] of each row are there."""

    def __init__(self, model: GPT, rows: int, room: int) -> None:
        self.model, self.rows, self.room = model, rows, room
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=model.tokens.weight.device)
        self._kept: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def prefill(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Take in prompts [b, s] of which `lengths` [b] tokens count; the state of the last, [1, b,
        h]. What stands behind a prompt is seen by no token before it, and written over later.
        """
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        self._kept = []
        with self._run(self._first):
            hidden = self.model.hidden(tokens, positions)
        self.lengths = lengths
        rows = torch.arange(self.rows, device=tokens.device)
        return hidden[lengths - 1, rows][None]

    @torch.no_grad()
    def step(self, tokens: Tensor) -> Tensor:
        """Take in one more token of each row [b]; its state [1, b, h]."""
        with self._run(self._next):
            hidden = self.model.hidden(tokens[:, None], self.lengths[:, None])
        self.lengths = self.lengths + 1
        return hidden

    @contextmanager
    def _run(self, run: RunLayers) -> Iterator[None]:
        before, self.model.run_layers = self.model.run_layers, run
        try:
            yield
        finally:
            self.model.run_layers = before

    def _first(self, layers: Sequence[Layer], x: Tensor, context: Context) -> Tensor:
        """All tokens of the prompts through all layers, [s, b, h] → [s, b, h]."""
        for layer in layers:
            q, k, v = layer.heads(x, context)
            self._kept.append((self._with_room(k), self._with_room(v)))
            x = layer.finish(x, layer.attention.attend(q, k, v, context), context)
        return x

    def _with_room(self, x: Tensor) -> Tensor:
        """[s, b, groups, d] → [room, b, groups, d]."""
        whole = x.new_zeros(self.room, *x.shape[1:])
        whole[: x.shape[0]] = x
        return whole

    def _next(self, layers: Sequence[Layer], x: Tensor, context: Context) -> Tensor:
        """One token of each row through all layers, [1, b, h] → [1, b, h]."""
        rows = torch.arange(self.rows, device=x.device)
        seen = int(self.lengths.max()) + 1
        visible = torch.arange(seen, device=x.device) <= self.lengths[:, None]
        for layer, (keys, values) in zip(layers, self._kept, strict=True):
            q, k, v = layer.heads(x, context)
            keys[self.lengths, rows], values[self.lengths, rows] = k[0], v[0]
            attended = _attend(q, keys[:seen], values[:seen], visible)
            x = layer.finish(x, attended, context)
        return x


def _attend(q: Tensor, keys: Tensor, values: Tensor, visible: Tensor) -> Tensor:
    """q [1, b, heads, d] over keys and values [n, b, groups, d] where visible [b, n]."""
    q4, k4, v4 = (x.permute(1, 2, 0, 3) for x in (q, keys, values))
    y = F.scaled_dot_product_attention(
        q4, k4, v4, attn_mask=visible[:, None, None], enable_gqa=q.shape[2] != keys.shape[2]
    )
    return y.permute(2, 0, 1, 3)
