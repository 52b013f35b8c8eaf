"""Blocks by cuDNN: its operator is a GPU's, so that a stand-in takes what it takes and gives it.

What it gives is that of torch's flash kernel on the CPU, in its shapes; what it is given is held to
torch's own declaration. tests/gpu/savings.py holds the real one to attention as it is written.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from longseq.attention import blocks
from longseq.attention.chunked import chunked
from longseq.attention.kernel import Documents, kernel
from longseq.config.arguments import GROUPS, Config
from longseq.config.flags import parse
from longseq.engine.engine import attention_kernel

NAMES = "_scaled_dot_product_cudnn_attention", "_scaled_dot_product_cudnn_attention_backward"
FORWARD, BACKWARD = (getattr(torch.ops.aten, name).default for name in NAMES)
CPU = torch.ops.aten


def bound(operator: Any, args: tuple[Any, ...]) -> dict[str, Any]:
    """The arguments by torch's names; each has the kind that torch says."""
    declared = operator._schema.arguments[: len(args)]
    for argument, value in zip(declared, args, strict=True):
        kind = str(argument.type)
        if kind == "Tensor" and value is None:
            assert argument.name in ("attn_bias", "cum_seq_q", "cum_seq_k")  # may be undefined
        else:
            assert (kind == "Tensor") == isinstance(value, Tensor), argument
    return {argument.name: value for argument, value in zip(declared, args, strict=True)}


def forward(*args: Any) -> tuple[Any, ...]:
    a = bound(FORWARD, args)
    assert a["compute_log_sumexp"]
    q, k, v = (a[name] for name in ("query", "key", "value"))
    assert q.shape[1] == k.shape[1] == v.shape[1]
    y, lse = CPU._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, a["is_causal"])
    return y, lse[..., None], None, None, q.shape[2], k.shape[2], None, None, None


def backward(*args: Any) -> tuple[Tensor, ...]:
    a = bound(BACKWARD, args)
    q, k, lse = a["query"], a["key"], a["logsumexp"]
    assert lse.shape == (*q.shape[:3], 1)
    assert (a["max_q"], a["max_k"], a["dropout_p"]) == (q.shape[2], k.shape[2], 0.0)
    names = "grad_out", "query", "key", "value", "out"
    tensors = [a[name] for name in names]
    result: tuple[Tensor, ...] = CPU._scaled_dot_product_flash_attention_for_cpu_backward(
        *tensors, lse[..., 0], 0.0, a["is_causal"]
    )
    return result


@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("documents", [None, ((3, 30, 40), (40,))])
def test_chunks_by_cudnn(
    groups: int, documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = SimpleNamespace(**dict(zip(NAMES, (forward, backward), strict=True)))
    monkeypatch.setattr(blocks, "ATEN", stand_in)
    torch.manual_seed(1)
    heads = (4, groups, groups)
    q, k, v = (torch.randn(40, 2, n, 8, requires_grad=True) for n in heads)
    dy = torch.randn(40, 2, 4, 8)
    found = chunked(16, False, "cudnn")(q, k, v, documents, None)
    wanted = kernel("core")(q, k, v, documents, None)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    ours, theirs = (torch.autograd.grad(y, (q, k, v), dy) for y in (found, wanted))
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5)


def test_the_flag_names_the_kernel_of_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "--use-flash-attn-cudnn --bf16 --ds-sequence-parallel-fpdt".split()
    attend = attention_kernel(Config(*parse(GROUPS, words)).memory)
    used: list[str] = []

    def told(name: str) -> Any:
        used.append(name)
        return blocks.block_forward, blocks.block_backward

    monkeypatch.setattr("longseq.attention.chunked.blocks", told)
    x = torch.randn(8, 1, 2, 8)
    attend(x, x, x, None, None)
    assert used == ["cudnn"]
