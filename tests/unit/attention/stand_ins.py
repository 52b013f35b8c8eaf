"""Stand-ins for packages that only a GPU runs: their signatures and demands, computed on the CPU.

Signatures are those of flash-attn 1.0.9 and 2.8.3, of FlashAttention-3 (hopper/ of the same
repository, 2025-10) and of flash-attn-4 4.0.0b36; the demands are those that they make of their
tensors. Each call is recorded. Where the real package is installed, test_adapters.py compares the
signatures.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor


@dataclass(frozen=True)
class Call:
    """What a kernel was asked for, besides its tensors."""

    offsets: list[int]
    longest: int
    dropout: float
    scale: float | None
    causal: bool
    deterministic: bool
    groups: int


CALLS: list[Call] = []
ADAPTERS = tuple(f"longseq.attention.kernels.flash_v{number}" for number in (1, 2, 3, 4))


def forget() -> None:
    """What was imported with a stand-in behind it."""
    for adapter in ADAPTERS:
        sys.modules.pop(adapter, None)


def demand(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: tuple[Tensor, Tensor],
    longest: tuple[int, int],
    largest_head: int,
    multiple: int,
) -> None:
    """The checks of the packages' C++, but for the device."""
    for x in (q, k, v):
        assert x.dim() == 3, "[tokens, heads, head size]"
        assert x.dtype in (torch.float16, torch.bfloat16)
        assert x.dtype == q.dtype
        assert x.device == q.device
        assert x.stride(-1) == 1, "the last dimension must be contiguous"
    tokens, heads, size = q.shape
    assert k.shape == v.shape == (tokens, k.shape[1], size)
    assert heads % k.shape[1] == 0
    assert size <= largest_head
    assert size % multiple == 0
    for x in offsets:
        assert (x.dtype, x.device) == (torch.int32, q.device)
        assert x.is_contiguous()
        edges = x.tolist()
        assert (edges[0], edges[-1]) == (0, tokens)
        assert all(a < b for a, b in pairwise(edges))
    for number, x in zip(longest, offsets, strict=True):
        assert type(number) is int
        assert number == max(b - a for a, b in pairwise(x.tolist()))


def compute(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """Causal attention of each sequence by itself in fp32; dropout from the global generator."""
    CALLS.append(call)
    repeat = q.shape[1] // k.shape[1]
    scale = call.scale if call.scale is not None else 1 / math.sqrt(q.shape[2])
    pieces = []
    for start, stop in pairwise(call.offsets):
        a, b, c = (x[start:stop].float() for x in (q, k, v))
        scores = torch.einsum("shd,thd->hst", a, b.repeat_interleave(repeat, 1)) * scale
        future = torch.ones(stop - start, stop - start, dtype=torch.bool).triu(1)
        weights = scores.masked_fill(future, -torch.inf).softmax(-1) if call.causal else scores
        if call.dropout:
            weights = weights * (torch.rand_like(weights) >= call.dropout) / (1 - call.dropout)
        pieces.append(torch.einsum("hst,thd->shd", weights, c.repeat_interleave(repeat, 1)))
    return torch.cat(pieces).to(q.dtype)


def flash_attn_unpadded_func(  # 1.0.9
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float,
    softmax_scale: float | None = None,
    causal: bool = False,
    return_attn_probs: bool = False,
    deterministic: bool = False,
) -> Tensor:
    longest = max_seqlen_q, max_seqlen_k
    demand(q, k, v, (cu_seqlens_q, cu_seqlens_k), longest, largest_head=128, multiple=8)
    assert q.shape == k.shape, "1.x has no grouped heads"
    assert not return_attn_probs
    offsets = cu_seqlens_q.tolist()
    call = Call(offsets, max_seqlen_q, dropout_p, softmax_scale, causal, deterministic, k.shape[1])
    return compute(q, k, v, call)


def flash_attn_varlen_func(  # 2.8.3
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: Any = None,
) -> Tensor:
    longest = max_seqlen_q, max_seqlen_k
    demand(q, k, v, (cu_seqlens_q, cu_seqlens_k), longest, largest_head=256, multiple=1)
    assert (window_size, softcap) == ((-1, -1), 0.0)
    assert alibi_slopes is block_table is None
    assert not return_attn_probs
    offsets = cu_seqlens_q.tolist()
    call = Call(offsets, max_seqlen_q, dropout_p, softmax_scale, causal, deterministic, k.shape[1])
    return compute(q, k, v, call)


def flash_attn_3_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    seqused_q: Any = None,
    seqused_k: Any = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    qv: Any = None,
    q_descale: Any = None,
    k_descale: Any = None,
    v_descale: Any = None,
    window_size: tuple[int, int] = (-1, -1),
    attention_chunk: int = 0,
    softcap: float = 0.0,
    num_splits: int = 1,
    pack_gqa: Any = None,
    deterministic: bool = False,
    sm_margin: int = 0,
    return_attn_probs: bool = False,
) -> Tensor:
    longest = max_seqlen_q, max_seqlen_k
    demand(q, k, v, (cu_seqlens_q, cu_seqlens_k), longest, largest_head=256, multiple=8)
    assert seqused_q is seqused_k is qv is q_descale is k_descale is v_descale is pack_gqa is None
    assert (window_size, attention_chunk, softcap) == ((-1, -1), 0, 0.0)
    assert (num_splits, sm_margin, return_attn_probs) == (1, 0, False)
    offsets = cu_seqlens_q.tolist()
    call = Call(offsets, max_seqlen_q, 0.0, softmax_scale, causal, deterministic, k.shape[1])
    return compute(q, k, v, call)


def flash_attn_3_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    softmax_scale: float | None = None,
    causal: bool = False,
    qv: Any = None,
    q_descale: Any = None,
    k_descale: Any = None,
    v_descale: Any = None,
    window_size: tuple[int, int] = (-1, -1),
    attention_chunk: int = 0,
    softcap: float = 0.0,
    num_splits: int = 1,
    pack_gqa: Any = None,
    deterministic: bool = False,
    sm_margin: int = 0,
    return_attn_probs: bool = False,
) -> Tensor:
    assert qv is q_descale is k_descale is v_descale is pack_gqa is None
    assert (window_size, attention_chunk, softcap) == ((-1, -1), 0, 0.0)
    assert (num_splits, sm_margin, return_attn_probs) == (1, 0, False)
    return compute_whole(q, k, v, softmax_scale, causal, deterministic)


def compute_whole(
    q: Tensor, k: Tensor, v: Tensor, scale: float | None, causal: bool, deterministic: bool
) -> Tensor:
    """Whole samples [b, s, heads, d], one after another."""
    b, s = q.shape[:2]
    offsets = torch.arange(0, (b + 1) * s, s, dtype=torch.int32)
    a, c, d = (x.flatten(0, 1) for x in (q, k, v))
    demand(a, c, d, (offsets, offsets), (s, s), largest_head=256, multiple=8)
    asked = Call(offsets.tolist(), s, 0.0, scale, causal, deterministic, k.shape[2])
    return compute(a, c, d, asked).unflatten(0, (b, s))


def flash_attn_4_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    qv: Any = None,
    gather_kv_indices: Any = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int | None, int | None] = (None, None),
    learnable_sink: Any = None,
    softcap: float = 0.0,
    num_splits: int = 1,
    pack_gqa: Any = None,
    deterministic: bool = False,
) -> tuple[Tensor, None]:
    assert qv is gather_kv_indices is learnable_sink is pack_gqa is None
    assert (window_size, softcap, num_splits) == ((None, None), 0.0, 1)
    return compute_whole(q, k, v, softmax_scale, causal, deterministic), None


def flash_attn_4_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    qv: Any = None,
    cu_seqlens_q: Any = None,
    cu_seqlens_k: Any = None,
    max_seqlen_q: Any = None,
    max_seqlen_k: Any = None,
    min_seqlen_k: Any = None,
    seqused_q: Any = None,
    seqused_k: Any = None,
    gather_kv_indices: Any = None,
    page_table: Any = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int | None, int | None] = (None, None),
    learnable_sink: Any = None,
    softcap: float = 0.0,
    num_splits: int = 1,
    pack_gqa: Any = None,
    deterministic: bool = False,
) -> tuple[Tensor, None]:
    longest = max_seqlen_q, max_seqlen_k
    demand(q, k, v, (cu_seqlens_q, cu_seqlens_k), longest, largest_head=256, multiple=8)
    assert qv is min_seqlen_k is seqused_q is seqused_k is gather_kv_indices is page_table is None
    assert learnable_sink is pack_gqa is None
    assert (window_size, softcap, num_splits) == ((None, None), 0.0, 1)
    offsets = cu_seqlens_q.tolist()
    asked = Call(offsets, max_seqlen_q, 0.0, softmax_scale, causal, deterministic, k.shape[1])
    return compute(q, k, v, asked), None


def install(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    """Put the stand-in for the package behind `kernel` where imports find it, for one test."""
    package = ModuleType("flash_attn")
    cute = ModuleType("flash_attn.cute")
    interface = ModuleType("flash_attn.flash_attn_interface")
    hopper = ModuleType("flash_attn_interface")
    if kernel == "v1":
        interface.flash_attn_unpadded_func = flash_attn_unpadded_func  # type: ignore[attr-defined]
    else:
        package.flash_attn_varlen_func = flash_attn_varlen_func  # type: ignore[attr-defined]
        hopper.flash_attn_func = flash_attn_3_func  # type: ignore[attr-defined]
        hopper.flash_attn_varlen_func = flash_attn_3_varlen_func  # type: ignore[attr-defined]
        cute.flash_attn_func = flash_attn_4_func  # type: ignore[attr-defined]
        cute.flash_attn_varlen_func = flash_attn_4_varlen_func  # type: ignore[attr-defined]
    for module in (package, interface, hopper, cute):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    forget()
    CALLS.clear()
