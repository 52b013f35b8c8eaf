"""Documents and rows of a batch end to end, as variable-length kernels take them.

Such a kernel sees [tokens of all rows, heads, d] and the offsets at which sequences begin.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from longseq.attention.kernel import Documents


class Packing(NamedTuple):
    """Where sequences begin and the last one ends, int32 on the device, and the longest one."""

    offsets: Tensor
    longest: int


def starts(s: int, documents: Documents, row: int) -> tuple[int, ...]:
    """The first token of each document of one row."""
    edges = documents[row] if documents else ()
    return (0, *(edge for edge in edges if edge < s))


@lru_cache(maxsize=4)  # every layer of a pass asks for the same
def packing(s: int, b: int, documents: Documents, device: torch.device) -> Packing:
    """The sequences of b rows of s tokens, one behind the other."""
    edges = [row * s + start for row in range(b) for start in starts(s, documents, row)]
    edges.append(b * s)
    longest = max(stop - start for start, stop in pairwise(edges))
    return Packing(torch.tensor(edges, dtype=torch.int32, device=device), longest)


def pack(x: Tensor) -> Tensor:
    """[s, b, heads, d] → [b s, heads, d]: a view where there is one row."""
    return x.transpose(0, 1).flatten(0, 1)


def unpack(y: Tensor, b: int) -> Tensor:
    """[b s, heads, d] → [s, b, heads, d], a view."""
    return y.unflatten(0, (b, -1)).transpose(0, 1)
