"""Ulysses (arXiv 2309.14509): around attention, sequence parts are swapped for heads.

    before        each rank holds its tokens of all heads          [s/U, b, heads, d]
    in attention  each rank holds all tokens of its heads          [s, b, heads of this rank, d]

Heads need not divide by the ranks, and key-value heads may be fewer than ranks: each rank takes a
run of query heads, the first ranks one more, and the key-value heads that these look at.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from longseq.attention.exchange import Exchange, Three
from longseq.parallel.collectives import all_to_all
from longseq.parallel.mesh import Group

Runs = tuple[tuple[int, int], ...]  # of heads, one a rank


class _SequenceToHeads(torch.autograd.Function):
    """[s/U, b, heads, d] → [s, b, run, d]; runs may overlap, and then gradients add up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, runs: Runs, group: Group) -> Tensor:
        """[s/U, b, heads, d] → [s, b, run, d]."""
        ctx.runs, ctx.group, ctx.heads = runs, group, x.shape[2]
        return _to_heads(x, runs, group)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        """[s, b, run, d] → [s/U, b, heads, d]."""
        return _to_sequence(dy, ctx.runs, ctx.heads, ctx.group), None, None


class _HeadsToSequence(torch.autograd.Function):
    """[s, b, run, d] → [s/U, b, heads, d]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, runs: Runs, group: Group) -> Tensor:
        """[s, b, run, d] → [s/U, b, heads, d]."""
        ctx.runs, ctx.group = runs, group
        return _to_sequence(x, runs, runs[-1][1], group)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        """[s/U, b, heads, d] → [s, b, run, d]."""
        return _to_heads(dy, ctx.runs, ctx.group), None, None


def _to_heads(x: Tensor, runs: Runs, group: Group) -> Tensor:
    """[s/U, b, heads, d] → [s, b, heads of this rank's run, d]."""
    low, high = runs[group.rank]
    shape = (x.shape[0], x.shape[1], high - low, x.shape[3])
    return torch.cat(all_to_all([x[:, :, a:b] for a, b in runs], [shape] * group.size, group))


def _to_sequence(x: Tensor, runs: Runs, heads: int, group: Group) -> Tensor:
    """[s, b, heads of this rank's run, d] → [s/U, b, heads, d]; overlapping runs are added up."""
    n, b, _, d = x.shape[0] // group.size, *x.shape[1:]
    shapes = [(n, b, high - low, d) for low, high in runs]
    y = x.new_zeros(n, b, heads, d)
    for (low, high), piece in zip(runs, all_to_all(list(x.split(n)), shapes, group), strict=True):
        y[:, :, low:high] += piece
    return y


def query_runs(heads: int, size: int) -> Runs:
    """Runs of query heads, the first `heads % size` ranks with one more."""
    edges = [rank * (heads // size) + min(rank, heads % size) for rank in range(size + 1)]
    return tuple(pairwise(edges))


class Ulysses(Exchange):
    """The exchange around the kernel for ranks that each hold a part of the sequence."""

    def __init__(self, group: Group, heads: int, groups: int) -> None:
        """`heads` query heads and `groups` key-value heads, as the ranks hold them between them."""
        self.group, self.heads, self.groups = group, heads, groups
        self.runs = query_runs(heads, group.size)
        repeat = heads // groups
        self.shared = tuple((low // repeat, -(-high // repeat)) for low, high in self.runs)
        low, high = self.runs[group.rank]
        # How many of its query heads look at each of its key-value heads. Kernels take only equal
        # numbers; of others each query head gets its key-value head by itself.
        edges = [low, *range((low // repeat + 1) * repeat, high, repeat), high]
        self.counts = [b - a for a, b in pairwise(edges)]
        self.even = len(set(self.counts)) == 1

    def scatter_heads(self, q: Tensor, k: Tensor, v: Tensor) -> Three:
        """[s/U, b, all heads, d] → [s, b, heads of this rank, d]."""
        q = _SequenceToHeads.apply(q, self.runs, self.group)
        k, v = (_SequenceToHeads.apply(x, self.shared, self.group) for x in (k, v))
        return q, self._apart(k), self._apart(v)

    def scatter_heads_gradient(self, dq: Tensor, dk: Tensor, dv: Tensor) -> Three:
        """[s, b, heads of this rank, d] → [s/U, b, all heads, d]."""
        dq = _to_sequence(dq, self.runs, self.heads, self.group)
        dk, dv = (self._together(x) for x in (dk, dv))
        dk, dv = (_to_sequence(x, self.shared, self.groups, self.group) for x in (dk, dv))
        return dq, dk, dv

    def _apart(self, x: Tensor) -> Tensor:
        """[s, b, key-value heads, d] → [s, b, query heads, d], where kernels cannot share them.

        By slices: numbers of heads would be copied to a GPU, which is waited for.
        """
        if self.even:
            return x
        pairs = zip(x.split(1, 2), self.counts, strict=True)
        return torch.cat([head.expand(-1, -1, count, -1) for head, count in pairs], 2)

    def _together(self, d: Tensor) -> Tensor:
        """[s, b, query heads, d] → [s, b, key-value heads, d], those of one head added."""
        if self.even:
            return d
        return torch.stack([heads.sum(2) for heads in d.split(self.counts, 2)], 2)

    def gather_heads(self, y: Tensor) -> Tensor:
        """[s, b, heads of this rank, d] → [s/U, b, all heads, d]."""
        gathered: Tensor = _HeadsToSequence.apply(y, self.runs, self.group)
        return gathered

    def gather_heads_gradient(self, dy: Tensor) -> Tensor:
        """[s/U, b, all heads, d] → [s, b, heads of this rank, d]."""
        return _to_heads(dy, self.runs, self.group)
