"""Embeddings against torch's own in fp64, and those of half precision in few rows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from longseq.model import norm
from longseq.model.tables import Tokens, rows_of


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 0), (torch.float32, 1e-5), (torch.bfloat16, 4e-3)]
)
def test_gradients_of_few_letters_in_many_tokens(
    dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all tokens, and of those that a rank with rows 2 to 5 of 8 has."""
    monkeypatch.setattr(norm, "BLOCK", 2 * 16 * 1000)  # several blocks
    torch.manual_seed(2)
    ids, up = torch.randint(0, 5, (8192, 2)), torch.rand(8192, 2, 16).to(dtype)
    table = torch.randn(8, 16, dtype=dtype)
    whole = table.double().requires_grad_()
    values = F.embedding(ids, whole)
    (due,) = torch.autograd.grad(values, whole, up.double())

    tokens = Tokens(8, 16, _weight=table)
    mine = table[2:6].clone().requires_grad_()
    for found, held, first in ((tokens(ids), tokens.weight, 0), (rows_of(mine, ids - 2), mine, 2)):
        there = (ids >= first) & (ids < first + len(held))
        assert torch.equal(found.double(), values.detach() * there[..., None])
        (gradient,) = torch.autograd.grad(found, held, up)
        assert gradient.dtype == dtype
        expected = due[first : first + len(held)]
        torch.testing.assert_close(gradient.double(), expected, rtol=tolerance, atol=tolerance)
