"""Documents and rows of a batch end to end, as variable-length kernels take them.

Such a kernel sees [tokens of all rows, heads, d] and the offsets at which sequences begin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

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
    offsets = torch.tensor(edges, dtype=torch.int32, pin_memory=device.type == "cuda")
    return Packing(offsets.to(device, non_blocking=True), longest)  # else a GPU is waited for


def pack(x: Tensor) -> Tensor:
    """[s, b, heads, d] → [b s, heads, d]: a view where there is one row."""
    return x.transpose(0, 1).flatten(0, 1)


def unpack(y: Tensor, b: int) -> Tensor:
    """[b s, heads, d] → [s, b, heads, d], a view."""
    return y.unflatten(0, (b, -1)).transpose(0, 1)


def attend_packed(
    function: Callable[..., Any],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    documents: Documents,
    **options: Any,
) -> Tensor:
    """All documents of all rows in one call of a variable-length kernel's `function`.

    It takes packed q, k and v, offsets of queries and keys, the longest of each, and `options`.
    q [s, b, heads, d], k and v [s, b, groups, d] → [s, b, heads, d].
    """
    s, b = q.shape[:2]
    offsets, longest = packing(s, b, documents, q.device)
    y = function(pack(q), pack(k), pack(v), offsets, offsets, longest, longest, **options)
    return unpack(y if isinstance(y, Tensor) else y[0], b)  # some give log-sum-exp as well


def attend_whole(
    function: Callable[..., Any], q: Tensor, k: Tensor, v: Tensor, **options: Any
) -> Tensor:
    """Whole samples, views of what is given, in one call of a kernel's `function`.

    It takes q, k and v [b, s, heads, d], and deals their tiles out more evenly than those of
    documents. q [s, b, heads, d], k and v [s, b, groups, d] → [s, b, heads, d].
    """
    y = function(*(x.transpose(0, 1) for x in (q, k, v)), **options)
    return (y if isinstance(y, Tensor) else y[0]).transpose(0, 1)


def flash_options(q: Tensor) -> dict[str, Any]:
    """What flash-attn's functions of all versions are told; q [s, b, heads, d]."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    scale = 1 / math.sqrt(q.shape[-1])
    return {"softmax_scale": scale, "causal": True, "deterministic": deterministic}
