"""Cross entropy of a head over long sequences: the logits of all tokens never exist.

    loss = tiled_cross_entropy(hidden, table, labels, weights, vocabulary)     # trains
    losses = token_losses(hidden, table, labels, vocabulary)                   # [s, b], looks only

A tile's logits are made, turned into loss and gradient, and dropped, all in the forward pass: if
the gradient waited for backward they would be made twice. fp16 cannot hold what one of a million
tokens counts for, and its loss scale comes with backward only: so gradients are made in a unit of
their own, which backward multiplies by together with that. Where ranks share the table or the
tokens, a HeadExchange stands between them (parallel/vocabulary.py has one).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from longseq.model.head_tiles import BLOCK, tile_tokens


class HeadExchange:
    """What ranks do around the logits; here nothing: one rank has all tokens and the whole table.

    parts: over how many ranks the tokens of the hidden states are split.
    """

    parts = 1

    def first_row(self, rows: int) -> int:
        """The token that this rank's first row of the table stands for; a rank has `rows`."""
        return 0

    def gather_tokens(self, hidden: Tensor) -> Tensor:
        """[n, b, h] of this rank's tokens → [parts·n, b, h] of all."""
        return hidden

    def gather_tokens_gradient(self, d_hidden: Tensor) -> Tensor:
        """[parts·n, b, h] from this rank's rows of the table → [n, b, h] from all rows."""
        return d_hidden

    def gather_vocabulary(self, logits: Tensor) -> Tensor:
        """[…, V of this rank] → […, V]."""
        return logits

    def maximum(self, x: Tensor) -> Tensor:
        """The largest over the ranks that share the table, x of any shape, in place."""
        return x

    def total(self, x: Tensor) -> Tensor:
        """The sum over the ranks that share the table, x of any shape, in place."""
        return x


WHOLE = HeadExchange()


def tiled_cross_entropy(
    hidden: Tensor,
    table: Tensor,
    labels: Tensor,
    weights: Tensor,
    vocabulary: int,
    exchange: HeadExchange = WHOLE,
) -> Tensor:
    """Σ weights · cross entropy, a scalar fp32, the same on every rank of the exchange.

    hidden [s/parts, b, h], table [V of this rank, h], labels and weights [s, b]. Rows of the table
    from token `vocabulary` on are padding and take no part.
    """
    return _TiledCrossEntropy.apply(hidden, table, labels, weights, vocabulary, exchange)


@torch.no_grad()
def token_losses(
    hidden: Tensor,
    table: Tensor,
    labels: Tensor,
    vocabulary: int,
    exchange: HeadExchange = WHOLE,
) -> Tensor:
    """The cross entropy of each token, [s, b] fp32, without gradients; shapes as above."""
    found = torch.empty(labels.shape, dtype=torch.float32, device=hidden.device)
    split = found.unflatten(0, (exchange.parts, -1)), labels.unflatten(0, (exchange.parts, -1))
    for here in _tiles(hidden, table, exchange):
        h = exchange.gather_tokens(hidden[here]).flatten(0, 1)
        tile = _tile_losses(h @ table.t(), split[1][:, here].flatten(), vocabulary, exchange)
        split[0][:, here] = tile.losses.view_as(split[0][:, here])
    return found


def _tiles(hidden: Tensor, table: Tensor, exchange: HeadExchange) -> Iterator[slice]:
    """Rows of hidden [s/parts, b, h] that are worked on together."""
    rows, batch = hidden.shape[:2]
    kind = "cpu" if hidden.is_cpu else "gpu"
    exchanged = hidden.shape[2] * hidden.element_size() if exchange.parts > 1 else 0
    tile = max(1, tile_tokens(kind, table.shape[0], batch, exchanged) // exchange.parts)
    for start in range(0, rows, tile):
        yield slice(start, min(start + tile, rows))


class _TiledCrossEntropy(torch.autograd.Function):
    """The loss in forward, and its gradients with it; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        table: Tensor,
        labels: Tensor,
        weights: Tensor,
        vocabulary: int,
        exchange: HeadExchange,
    ) -> Tensor:
        """Shapes as in tiled_cross_entropy → a scalar."""
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        by_part = (exchange.parts, hidden.shape[0])
        labels, weights = labels.unflatten(0, by_part), weights.unflatten(0, by_part)
        block = max(1, BLOCK["cpu" if hidden.is_cpu else "gpu"] // hidden.shape[2])
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if wanted else None
        d_table = torch.zeros_like(table, dtype=torch.float32) if wanted else None
        unit = _unit(weights)
        for here in _tiles(hidden, table, exchange):
            h = exchange.gather_tokens(hidden[here]).flatten(0, 1)
            tile_weights = weights[:, here].flatten()
            tile = _tile_losses(h @ table.t(), labels[:, here].flatten(), vocabulary, exchange)
            loss += torch.dot(tile.losses, tile_weights)
            if d_hidden is not None and d_table is not None:
                d_logits = _logits_gradient(tile, tile_weights / unit).to(table.dtype)
                d_h = (d_logits @ table).view(-1, *hidden.shape[1:])
                d_hidden[here] = exchange.gather_tokens_gradient(d_h)
                del d_h
                _add_product(d_table, d_logits, h, block)
                del d_logits
            del tile, h  # or they would live until the next tile is there
        if d_hidden is not None and d_table is not None:
            waits = table.dtype == torch.float16  # for the loss scale, to be rounded once it is in
            ctx.save_for_backward(d_hidden, d_table if waits else d_table.to(table.dtype), unit)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """grad a scalar → gradients of hidden [s/parts, b, h] and table [V of this rank, h]."""
        d_hidden, d_table, unit = ctx.saved_tensors
        factor = grad * unit
        if not d_hidden.is_cpu:  # a GPU would round a scalar; a CPU does not, nor makes fp32 copies
            factor = factor[None]
        d_table = d_table.mul_(factor).to(d_hidden.dtype)
        return d_hidden.mul_(factor), d_table, None, None, None, None


class _TileLosses(NamedTuple):
    """Of n tokens: losses [n], exponentials [n, V of this rank] and their sums [n] over the ranks.

    `label` [n, 1] is the column of each token's label, 0 where another rank has it (`elsewhere`).
    """

    losses: Tensor
    exponentials: Tensor
    total: Tensor
    label: Tensor
    elsewhere: Tensor


def _tile_losses(
    logits: Tensor, labels: Tensor, vocabulary: int, exchange: HeadExchange
) -> _TileLosses:
    """Losses of logits [n, V of this rank] with labels [n]; padding rows get probability 0."""
    logits = logits.float()
    columns = logits.shape[1]
    first = exchange.first_row(columns)
    real = min(max(vocabulary - first, 0), columns)
    logits[:, real:] = -torch.inf
    top = exchange.maximum(logits.amax(-1))
    logits.sub_(top[:, None])
    local = labels - first
    elsewhere = (local < 0) | (local >= columns)
    label = local.masked_fill(elsewhere, 0)[:, None]
    target = logits.gather(1, label)[:, 0].masked_fill(elsewhere, 0.0)
    logits.exp_()
    target, total = exchange.total(torch.stack((target, logits.sum(-1))))
    return _TileLosses(total.log() - target, logits, total, label, elsewhere)


def _unit(weights: Tensor) -> Tensor:
    """A power of two, a scalar, in which the largest of the weights is 1/8 to 1/4.

    Whatever is in such a unit has the same digits. The gradients of such a token's logits are above
    fp16's smallest number, also where there are 50,000; the sums over tokens see to themselves.
    """
    top = weights.amax().clamp_min(torch.finfo(torch.float32).tiny)
    return (top.view(torch.int32) & 0x7F800000).view(torch.float32) * 8


def _logits_gradient(tile: _TileLosses, weights: Tensor) -> Tensor:
    """d(Σ weights · losses) / d logits, [n, V of this rank] fp32, in the exponentials' memory."""
    gradient = tile.exponentials.mul_((weights / tile.total)[:, None])
    mine = weights.masked_fill(tile.elsewhere, 0.0)[:, None]
    return gradient.scatter_add_(1, tile.label, -mine)


def _add_product(total: Tensor, d_logits: Tensor, h: Tensor, rows: int) -> None:
    """total [V, h] fp32 += d_logits [n, V]ᵀ · h [n, h]; in half precision some rows at a time.

    fp16 ends at 65,504, where 32,768 tokens of one label bring 8,192 |h|: it gets a part of h, with
    which no |h| below 256 gets there. A small tile, of a large vocabulary, keeps all of it.
    """
    if h.dtype == torch.float32:
        total.addmm_(d_logits.t(), h)
        return
    part_of = 1
    if h.dtype == torch.float16:
        part_of = 1 << (len(h) // 1024).bit_length()
        h = h / part_of
    for some, part in zip(total.split(rows), d_logits.split(rows, 1), strict=True):
        some.add_(part.t() @ h, alpha=part_of)
