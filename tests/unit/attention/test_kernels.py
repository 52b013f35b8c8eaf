"""Kernels of the CPU against softmax written out, with documents and grouped heads."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from longseq.attention.kernel import AttentionDropout, Documents, kernel

S, B, D = 40, 2, 8
DOCUMENTS = ((7, 8, 31, 40), (40,))
OPEN = ((7, 8, 31), ())  # the same without the boundary at the end of the row


def by_hand(q: Tensor, k: Tensor, v: Tensor, documents: Documents) -> Tensor:
    """One query at a time over the keys that it may see; [s, b, heads, d]."""
    out = torch.zeros_like(q)
    for row in range(q.shape[1]):
        starts = [0, *(edge for edge in (documents[row] if documents else ()) if edge < S)]
        for t in range(S):
            first = max(start for start in starts if start <= t)
            for head in range(q.shape[2]):
                group = head * k.shape[2] // q.shape[2]
                keys, values = k[first : t + 1, row, group], v[first : t + 1, row, group]
                weights = (keys @ q[t, row, head] / math.sqrt(D)).softmax(0)
                out[t, row, head] = weights @ values
    return out


@pytest.mark.parametrize("name", ["core", "sdpa"])
@pytest.mark.parametrize("documents", [None, DOCUMENTS, OPEN])
@pytest.mark.parametrize("groups", [4, 2, 1])
def test_against_softmax_by_hand(name: str, documents: Documents, groups: int) -> None:
    torch.manual_seed(1)
    q, k, v = (torch.randn(S, B, heads, D) for heads in (4, groups, groups))
    found = kernel(name)(q, k, v, documents, None)
    torch.testing.assert_close(found, by_hand(q, k, v, documents))


@pytest.mark.parametrize("name", ["core", "sdpa"])
def test_dropout_is_repeated_by_its_seed(name: str) -> None:
    q, k, v = (torch.randn(S, B, 4, D) for _ in range(3))
    attend = kernel(name)
    one = attend(q, k, v, None, AttentionDropout(0.5, 7))
    assert torch.equal(one, attend(q, k, v, None, AttentionDropout(0.5, 7)))
    assert not torch.equal(one, attend(q, k, v, None, AttentionDropout(0.5, 8)))
    assert not torch.allclose(one, attend(q, k, v, None, None))


@pytest.mark.parametrize("name", ["core", "sdpa"])
def test_no_two_documents_drop_alike(name: str) -> None:
    q, k, v = (torch.ones(20, 2, 2, D) for _ in range(3))
    documents = ((10,), (10,))
    y = kernel(name)(q, k, v, documents, AttentionDropout(0.5, 7)).unflatten(0, (2, 10))
    parts = [y[document, :, row] for document in range(2) for row in range(2)]
    assert len({tuple(part.flatten().tolist()) for part in parts}) == 4
