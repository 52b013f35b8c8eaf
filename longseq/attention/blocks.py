"""Flash attention of a block of queries with a block of keys, and how blocks add up.

    forward, backward = blocks("sdpa")      # or "cudnn": by torch's flash kernels, or NVIDIA's
    y, lse = forward(q, k, v, causal)

A row of attention over several blocks is their outputs weighted by the exponentials of their
log-sum-exps; backward of each block needs the whole row's output and log-sum-exp (arXiv 2205.14135,
section 3.1 and appendix B). The ring and the chunked kernel are made of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

ATEN = torch.ops.aten
Index = tuple[slice, slice, slice]


Forward = Callable[[Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor]]
Backward = Callable[
    [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor, Tensor]
]


class Block(NamedTuple):
    """Which queries see which keys, as indices of [b, heads, n, d]; causal: row by row."""

    queries: Index
    keys: Index
    causal: bool


def block_forward(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """q [b, heads, n, d], k and v [b, groups, m, d] → output and log-sum-exp [b, heads, n]."""
    k, v = _for_heads(k, q), _for_heads(v, q)
    if q.is_cuda:
        y, lse, *_ = ATEN._scaled_dot_product_flash_attention(q, k, v, 0.0, causal)
        return y, lse[..., : q.shape[2]]
    y, lse = ATEN._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal)
    return y, lse


def block_backward(
    dy: Tensor, q: Tensor, k: Tensor, v: Tensor, y: Tensor, lse: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of one block's q, k and v, given the whole row's output and log-sum-exp.

    dy, q and y [b, heads, n, d], lse [b, heads, n], k and v [b, groups, m, d].
    """
    groups, lse = k.shape[1], lse.contiguous()
    k, v = _for_heads(k, q), _for_heads(v, q)
    if q.is_cuda:
        zero = torch.zeros((), dtype=torch.int64, device=q.device)
        lengths = q.shape[2], k.shape[2]
        dq, dk, dv = ATEN._scaled_dot_product_flash_attention_backward(
            dy, q, k, v, y, lse, None, None, *lengths, 0.0, causal, zero, zero
        )
    else:
        dq, dk, dv = ATEN._scaled_dot_product_flash_attention_for_cpu_backward(
            dy, q, k, v, y, lse, 0.0, causal
        )
    return dq, _for_groups(dk, groups), _for_groups(dv, groups)


def cudnn_forward(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """What block_forward computes, by NVIDIA's kernel; its log-sum-exps are [b, heads, n, 1]."""
    k, v = _for_heads(k, q), _for_heads(v, q)
    y, lse, *_ = ATEN._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, causal)
    return y, lse.reshape(q.shape[:3])


def cudnn_backward(
    dy: Tensor, q: Tensor, k: Tensor, v: Tensor, y: Tensor, lse: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """What block_backward computes, by NVIDIA's kernel."""
    groups, lse = k.shape[1], lse.contiguous()[..., None]
    k, v = _for_heads(k, q), _for_heads(v, q)
    zero = torch.zeros((), dtype=torch.int64, device=q.device)
    lengths = q.shape[2], k.shape[2]
    dq, dk, dv = ATEN._scaled_dot_product_cudnn_attention_backward(
        dy, q, k, v, y, lse, zero, zero, None, None, None, *lengths, 0.0, causal
    )
    return dq, _for_groups(dk, groups), _for_groups(dv, groups)


def blocks(kernel: str) -> tuple[Forward, Backward]:
    """Forward and backward of a block by the kernel of this name (limits.py: in_blocks)."""
    if kernel == "cudnn":
        return cudnn_forward, cudnn_backward
    return block_forward, block_backward


def merge(y: Tensor, lse: Tensor, part: Tensor, weight: Tensor) -> None:
    """Merge a block into the fp32 output and log-sum-exp of the blocks before it, in place.

    y and part [b, heads, n, d], lse and weight (the block's log-sum-exp) [b, heads, n].
    """
    total = torch.logaddexp(lse, weight.float())
    y.mul_((lse - total).exp()[..., None]).add_(part * (weight - total).exp()[..., None])
    lse.copy_(total)


def _for_heads(x: Tensor, q: Tensor) -> Tensor:
    """[b, groups, n, d] → [b, heads of q, n, d]."""
    repeat = q.shape[1] // x.shape[1]
    return x if repeat == 1 else x.repeat_interleave(repeat, 1)


def _for_groups(d: Tensor, groups: int) -> Tensor:
    """Gradients [b, heads, n, d], added up over the heads that share a group."""
    return d if groups == d.shape[1] else d.unflatten(1, (groups, -1)).sum(2)
