"""Attention in chunks of the sequence, which wait for backward in host memory.

Between forward and backward the device then holds none of queries, keys, values and output, and in
backward two chunks of each and of the fp32 sums: the idea of FPDT (arXiv 2408.16978). Forward works
on what it is given, whose copies leave meanwhile; where nothing is to be learned nothing is copied.
On a CPU, where the tests run it, "host memory" is where everything is, and the chunks remain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from longseq.attention.blocks import Block, blocks, merge
from longseq.attention.host_chunks import HostChunks
from longseq.attention.kernel import AttentionDropout, Documents, Kernel
from longseq.attention.zigzag import common


def chunked(size: int, on_host: bool, name: str = "sdpa") -> Kernel:
    """The kernel with chunks of `size` tokens; `on_host`: they wait in host memory between uses.

    `name`: the kernel of its blocks (blocks.py). It takes and gives [s, b, heads, d], as every
    kernel does, without attention dropout.
    """

    def attend(
        q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: AttentionDropout | None
    ) -> Tensor:
        """q [s, b, heads, d], k and v [s, b, groups, d] → [s, b, heads, d]."""
        assert dropout is None, "checks.py refuses attention dropout with chunks"
        four = (x.permute(1, 2, 0, 3) for x in (q, k, v))
        y: Tensor = _Chunked.apply(*four, documents, HostChunks(size, on_host, q.device), name)
        return y.permute(2, 0, 1, 3)

    return attend


def _pieces(i: int, j: int, chunks: list[Tensor], documents: Documents) -> Iterator[Block]:
    """What queries of chunk i see of chunk j ≤ i: one block, or one for each common document.

    chunks [b, heads, size, d], the last one shorter.
    """
    rows, _, size, _ = chunks[0].shape
    mine, theirs = ([(c * size, c * size + chunks[c].shape[2])] for c in (i, j))
    for row, queries, keys in common(mine, theirs, documents, rows):
        at, seen = ((row, slice(None), slice(*run)) for run in (queries, keys))
        yield Block(at, seen, i == j)


class _Chunked(torch.autograd.Function):
    """q [b, heads, s, d], k and v [b, groups, s, d]."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        documents: Documents,
        host: HostChunks,
        name: str,
    ) -> Tensor:
        """q [b, heads, s, d], k and v [b, groups, s, d] → [b, heads, s, d]."""
        attend, ctx.attend_backward = blocks(name)
        qs, ks, vs = (host.places(x.detach()) for x in (q, k, v))
        learns = any(ctx.needs_input_grad)
        kept = [host.put(chunk) for chunk in (*qs, *ks, *vs)] if learns else []
        out, weights = torch.empty_like(q), []
        for i, (mine, place) in enumerate(zip(qs, host.places(out.detach()), strict=True)):
            y = torch.zeros(mine.shape, dtype=torch.float32, device=q.device)
            lse = torch.full(mine.shape[:3], -math.inf, dtype=torch.float32, device=q.device)
            for j, (keys, values) in enumerate(zip(ks[: i + 1], vs[: i + 1], strict=True)):
                for at, seen, causal in _pieces(i, j, qs, documents):
                    part = attend(mine[at], keys[seen], values[seen], causal)
                    merge(y[at], lse[at], *part)
            place.copy_(y)
            if learns:
                kept.append(host.put(place))
                weights.append(lse)
        host.settle()
        ctx.documents, ctx.host, ctx.count = documents, host, len(qs)
        ctx.save_for_backward(*kept, *weights)
        return out

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """dy [b, heads, s, d] → gradients in the shapes of q, k and v."""
        n, host = ctx.count, ctx.host
        saved = ctx.saved_tensors  # asked for once: where attention is made again, this makes it
        qs, ks, vs, ys, weights = (list(saved[i * n : (i + 1) * n]) for i in range(5))
        del saved
        dys, sums = dy.split(host.size, 2), host.sums(qs)
        of_k = (*dy.shape[:1], ks[0].shape[1], *dy.shape[2:])
        d_q, d_k, d_v = (dy.new_empty(shape) for shape in (dy.shape, of_k, of_k))
        places = zip(*(host.places(d) for d in (d_q, d_k, d_v)), strict=True)
        pairs = zip(host.fetch(ks), host.fetch(vs), places, strict=True)
        for j, (keys, values, (q_place, k_place, v_place)) in enumerate(pairs):
            d_keys = torch.zeros(keys.shape, dtype=torch.float32, device=dy.device)
            d_values = torch.zeros_like(d_keys)
            later = zip(sums.fetch(j), host.fetch(qs[j:]), host.fetch(ys[j:]), strict=True)
            for i, (d_mine, mine, y) in enumerate(later, j):
                for at, seen, causal in _pieces(i, j, qs, ctx.documents):
                    block = (mine[at], keys[seen], values[seen], y[at], weights[i][at])
                    parts = ctx.attend_backward(dys[i][at].contiguous(), *block, causal)
                    totals = d_mine[at], d_keys[seen], d_values[seen]
                    for total, part in zip(totals, parts, strict=True):
                        total += part
                    del block, parts, totals, total, part  # else they last until the next are there
                if i == j:  # keys after these have nothing for these queries
                    q_place.copy_(d_mine)
            k_place.copy_(d_keys)
            v_place.copy_(d_values)
        return d_q, d_k, d_v, None, None, None
