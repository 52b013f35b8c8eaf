"""Ring attention (arXiv 2310.01889) in zig-zag order: keys and values go round, queries stay.

Each rank attends to the block at hand while the next one travels, and merges the parts by their
log-sum-exp. attention/zigzag.py says who holds which chunks: early and late ones, so that every
step is the same work on every rank. Backward sends the gradients of keys and values round behind
them, those of one half of the heads while the other half is at work.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any

import torch
from torch import Tensor

from longseq.attention.blocks import Backward, Block, Forward, blocks, merge
from longseq.attention.kernel import AttentionDropout, Documents, Kernel
from longseq.attention.zigzag import Spans, common, earlier, ring_periods, ring_spans
from longseq.parallel.collectives import shift
from longseq.parallel.mesh import Group


def seen_of(shape: torch.Size, source: int, group: Group, documents: Documents) -> Sequence[Block]:
    """What this rank's queries, [b, heads, n, d], see of the block of rank `source`.

    Its own block is causal as it stands. Of another rank's, each run of queries sees the keys that
    come before it, which are the block's first ones; where documents count, those of its own.
    """
    return _seen(shape[0], shape[2], group.rank, group.size, documents)[source]


@lru_cache(maxsize=4)  # every layer of a pass asks for the same
def _seen(
    rows: int, n: int, rank: int, size: int, documents: Documents
) -> tuple[tuple[Block, ...], ...]:
    """What rank `rank` of `size` sees of each, in samples of `rows` and n tokens a rank."""
    periods = ring_periods(n * size, size, documents is not None)
    held = [ring_spans(n * size, other, size, periods) for other in range(size)]
    return tuple(
        tuple(_blocks(held[rank], theirs, number == rank, documents, rows))
        for number, theirs in enumerate(held)
    )


def _blocks(
    mine: Spans, theirs: Spans, own: bool, documents: Documents, rows: int
) -> Iterator[Block]:
    """What queries of `mine` see of keys of `theirs`; `own`: these are the same tokens."""
    n = sum(stop - start for start, stop in mine)
    runs = [(0, n, n)] if own else earlier(mine, theirs)
    ends = [high for _, high, _ in runs]
    for row, (start, stop), (k_start, k_stop) in common(mine, theirs, documents, rows):
        for low, high, before in islice(runs, bisect_right(ends, start), None):
            if low >= stop:
                break
            queries = slice(max(start, low), min(stop, high))
            seen = slice(k_start, min(k_stop, before))
            if seen.start < seen.stop:
                yield Block((row, slice(None), queries), (row, slice(None), seen), own)


def _attend(forward: Forward, y: Tensor, lse: Tensor, *block: Any) -> None:
    """Merge what a block gives into y and lse; a function, so that nothing of it outlives it."""
    merge(y, lse, *forward(*block))


def _add_gradients(backward: Backward, dq: Tensor, dk: Tensor, dv: Tensor, *block: Any) -> None:
    """Add a block's gradients to the sums; a function, so that none of them outlives it."""
    for sums, part in zip((dq, dk, dv), backward(*block), strict=True):
        sums += part


def _halves(heads: int, groups: int) -> list[tuple[slice, slice]]:
    """Query heads and the key-value heads that they share, in two parts where there are two."""
    edges = [0, groups // 2, groups] if groups > 1 else [0, groups]
    shared = heads // groups
    return [(slice(a * shared, b * shared), slice(a, b)) for a, b in pairwise(edges)]


def _arrived(travelling: shift | None, like: Tensor) -> Tensor:
    """The sums that the rank before has sent on; at the first step there are none."""
    if travelling:
        return travelling.wait()
    return torch.zeros(like.shape, dtype=torch.float32, device=like.device)


class _Ring(torch.autograd.Function):
    """q [b, heads, n, d], k and v [b, groups, n, d] of this rank's tokens.

    Groups travel as they are; each block repeats its keys and values for the heads that share them.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, documents: Documents, group: Group, name: str
    ) -> Tensor:
        """[b, heads, n, d] → the output, [b, heads, n, d]."""
        attend, ctx.attend_backward = blocks(name)
        y = torch.zeros(q.shape, dtype=torch.float32, device=q.device)
        lse = torch.full(q.shape[:3], -math.inf, dtype=torch.float32, device=q.device)
        block = torch.stack((k, v))
        for step in range(group.size):
            source = (group.rank - step) % group.size
            coming = shift(block, group) if step + 1 < group.size else None
            for at, seen, causal in seen_of(q.shape, source, group, documents):
                _attend(attend, y[at], lse[at], q[at], block[0][seen], block[1][seen], causal)
            block = coming.wait() if coming else block
            del coming
        ctx.documents, ctx.group = documents, group
        out = y.to(q.dtype)
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """dy [b, heads, n, d] → gradients in the shapes of q, k and v."""
        q, k, v, y, lse = ctx.saved_tensors
        group, documents = ctx.group, ctx.documents
        dy = dy.contiguous()
        dq = torch.zeros(q.shape, dtype=torch.float32, device=q.device)
        block = torch.stack((k, v))
        halves = _halves(q.shape[1], k.shape[1])
        travelling: list[shift | None] = [None] * len(halves)
        for step in range(group.size):
            source = (group.rank - step) % group.size
            coming = shift(block, group) if step + 1 < group.size else None
            for number, (heads, groups) in enumerate(halves):
                gradient = _arrived(travelling[number], block[:, :, groups])
                travelling[number] = None
                for at, seen, causal in seen_of(q.shape, source, group, documents):
                    mine = [x[:, heads][at] for x in (dy, q, y, lse, dq)]
                    theirs = [x[:, groups][seen] for x in block]
                    sums = mine.pop(), *(x[seen] for x in gradient)
                    here = (*mine[:2], *theirs, *mine[2:])
                    _add_gradients(ctx.attend_backward, *sums, *here, causal)
                    del mine, theirs, sums, here  # they hold a block that goes
                travelling[number] = shift(gradient, group)  # after the last step it is home
                del gradient
            block = coming.wait() if coming else block
            del coming
        dk, dv = torch.cat([x.wait().to(k.dtype) for x in travelling if x], 2)
        return dq.to(q.dtype), dk, dv, None, None, None


def ring(group: Group, name: str = "sdpa") -> Kernel:
    """Attention over ranks that each hold two chunks of the sequence, [n, b, heads, d].

    `name`: the kernel of its blocks (attention/blocks.py).
    """

    def attend(
        q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: AttentionDropout | None
    ) -> Tensor:
        """q [n, b, heads, d], k and v [n, b, groups, d] → [n, b, heads, d]."""
        assert dropout is None, "checks.py refuses attention dropout with a ring"
        y: Tensor = _Ring.apply(*(x.permute(1, 2, 0, 3) for x in (q, k, v)), documents, group, name)
        return y.permute(2, 0, 1, 3)

    return attend
