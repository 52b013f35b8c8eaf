"""FLOPs of the operations that have any to speak of, and what flash kernels take beside results.

A multiply-add is two operations. Causal attention counts the half of the square that kernels
compute; backward of a flash kernel is five products for the two of forward (arXiv 2205.14135).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

ATEN = torch.ops.aten
MATMUL, ATTENTION = "matmul", "attention"
FLASH = ATEN._scaled_dot_product_flash_attention_for_cpu  # its interface is that of GPUs'
FLASH_BACKWARD = ATEN._scaled_dot_product_flash_attention_for_cpu_backward


def _product(a: Any, b: Any) -> int:
    """[…, m, k] times [k, n] or […, k, n]."""
    return 2 * a.numel() * b.shape[-1]


FLOPS: dict[Any, Callable[[Any], int]] = {
    ATEN.mm: lambda args: _product(args[0], args[1]),
    ATEN.bmm: lambda args: _product(args[0], args[1]),
    ATEN.addmm: lambda args: _product(args[1], args[2]),
    ATEN.addmm_: lambda args: _product(args[1], args[2]),
    ATEN.dot: lambda args: 2 * args[0].numel(),
}


def flops_of(func: Any, args: Any) -> Iterator[tuple[str, int]]:
    """(matmul or attention, FLOPs) of one call, if it has any."""
    packet = func.overloadpacket
    if packet in FLOPS:
        yield MATMUL, FLOPS[packet](args)
    elif packet is FLASH:
        yield ATTENTION, _attention(args[0], args[1], 2, len(args) > 4 and args[4])
    elif packet is FLASH_BACKWARD:
        _, q, k = args[:3]
        yield ATTENTION, _attention(q, k, 5, args[7])


def _attention(q: Any, k: Any, products: int, causal: bool) -> int:
    """q [b, heads, s, d], k [b, groups, t, d]; causal: half of the square."""
    whole = 2 * products * q.numel() * k.shape[2]
    return whole // 2 if causal else whole


def workspace_of(func: Any, args: Any) -> int:
    """Bytes that a flash kernel on a GPU takes beside its results.

    flash-attn 2's backward adds up the gradient of q in fp32 and, where heads share keys and
    values, makes the gradients of those for every head (csrc/flash_attn/flash_api.cpp, mha_bwd).
    """
    if func.overloadpacket is not FLASH_BACKWARD:
        return 0
    _, q, k = args[:3]
    expanded = 0 if q.shape[1] == k.shape[1] else 2 * q.numel() * q.element_size()
    return 4 * q.numel() + expanded
