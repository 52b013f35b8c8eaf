"""FlexAttention: torch compiles a Triton kernel from the rule of who sees whom. GPUs only.

The blocks that hold nothing visible are left out and those that are all visible need no mask. Their
tables are made from the document boundaries, never from an [s, s] mask.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from longseq.attention.kernel import AttentionDropout, Documents
from longseq.attention.packing import starts

SMALLEST_BLOCK = 128  # what the kernel works on at once
MOST_BLOCKS = 2048  # a side of the tables, which hold the square of it

_compiled = torch.compile(flex_attention, dynamic=False)


def attend(
    q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: AttentionDropout | None
) -> Tensor:
    """Causal attention; q [s, b, heads, d], k and v [s, b, groups, d] → [s, b, heads, d]."""
    assert dropout is None, "checks.py refuses attention dropout with this kernel"
    s, b, heads, d = q.shape
    q4, k4, v4 = (x.permute(1, 2, 0, 3) for x in (q, k, v))
    y: Tensor = _compiled(
        q4,
        k4,
        v4,
        block_mask=block_mask(s, b, documents, q.device),
        scale=1 / math.sqrt(d),
        enable_gqa=heads != k.shape[2],
    )
    return y.permute(2, 0, 1, 3)


@lru_cache(maxsize=2)  # every layer of a pass asks for the same
def block_mask(s: int, b: int, documents: Documents, device: torch.device) -> BlockMask:
    """Which blocks of keys each block of queries sees, whole or in part."""
    size = SMALLEST_BLOCK
    while s > size * MOST_BLOCKS:
        size *= 2
    number = document_numbers(s, b, documents).to(device)
    some, whole = visible_blocks(number, size)

    def sees(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        """Numbers of row, query and key, of shapes that broadcast → may the query see the key?"""
        return (key <= query) & (number[row, key] == number[row, query])

    partly = some & ~whole
    return BlockMask.from_kv_blocks(
        *_table(partly), *_table(whole), BLOCK_SIZE=size, mask_mod=sees, seq_lengths=(s, s)
    )


def document_numbers(s: int, b: int, documents: Documents) -> Tensor:
    """The number of each token's document in its row, [b, s] int32."""
    number = torch.zeros(b, s, dtype=torch.int32)
    for row in range(b):
        number[row, list(starts(s, documents, row)[1:])] = 1
    return number.cumsum(1, dtype=torch.int32)


def visible_blocks(number: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """[b, blocks, blocks] bool twice: queries that see any of the keys, or all of them."""
    s = number.shape[1]
    count = -(-s // size)
    first = number[:, ::size]
    last = number[:, [min((i + 1) * size, s) - 1 for i in range(count)]]
    block = torch.arange(count, device=number.device)
    earlier = block[:, None] > block
    some = earlier & (last[:, None, :] >= first[:, :, None])
    whole = earlier & (first[:, None, :] == last[:, :, None])
    if s % size:  # the last block of queries is not full, which makes its blocks parts
        whole[:, -1] = False
    return some | (block[:, None] == block), whole


def _table(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """[b, n, n] bool → how many blocks of keys each of queries has, [b, 1, n], and which.

    These are the first numbers in a row of [b, 1, n, n].
    """
    count = blocks.sum(-1, dtype=torch.int32)
    order = blocks.int().argsort(dim=-1, descending=True, stable=True).int()
    return count[:, None], order[:, None]
