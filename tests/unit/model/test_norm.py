"""Norms against torch's, and what they keep."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from longseq.model import norm
from longseq.model.norm import Norm
from tests.unit.attention.watch import Watch


def made(dtype: torch.dtype, kind: str = "rmsnorm") -> Norm:
    layer = Norm(24, kind, 1e-5).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(24, dtype=torch.float64))
    return layer


def as_defined(x: torch.Tensor, weight: torch.Tensor, *bias: torch.Tensor) -> torch.Tensor:
    if bias:
        return F.layer_norm(x, (24,), weight, bias[0])
    return F.rms_norm(x, (24,), weight, 1e-5)


@pytest.mark.parametrize("kind", ["rmsnorm", "layernorm"])
@pytest.mark.parametrize("block", [1, 24 * 2 * 5, 2**18])
@pytest.mark.parametrize(
    ("tokens", "dtype", "tolerance"),
    [
        (13, torch.float64, 1e-12),
        (13, torch.float32, 1e-6),
        (13, torch.bfloat16, 8e-3),
        (8000, torch.bfloat16, 8e-3),
    ],
)
def test_values_and_gradients_are_torchs(
    tokens: int,
    block: int,
    kind: str,
    dtype: torch.dtype,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where sums in half precision would stand still."""
    monkeypatch.setattr(norm, "BLOCK", block * tokens // 13)
    torch.manual_seed(3)
    layer = made(dtype, kind)
    x, dy = torch.randn(tokens, 2, 24, dtype=dtype), torch.rand(tokens, 2, 24).to(dtype)
    before = x.clone()
    inputs = [x.requires_grad_(), *layer.parameters()]
    wide = [t.detach().double().requires_grad_() for t in inputs]
    y, wanted = layer(x), as_defined(wide[0], *wide[1:])
    found = (y, *torch.autograd.grad(y, inputs, dy))
    due = (wanted, *torch.autograd.grad(wanted, wide, dy.double()))
    for got, want in zip(found, due, strict=True):
        assert got.dtype == dtype
        assert (got.double() - want).abs().max() <= tolerance * want.abs().max()
    assert torch.equal(x, before)


@pytest.mark.parametrize("kind", ["rmsnorm", "layernorm"])
def test_of_half_precision_no_fp32_copy_is_ever_whole(kind: str) -> None:
    layer = made(torch.bfloat16, kind)
    x = torch.randn(40_000, 1, 24).bfloat16().requires_grad_()
    with Watch() as watch:
        layer(x).backward(torch.ones_like(x))
    # Its result, both gradients, a number or two a token, and a few copies of a block
    assert watch.peak < 4 * x.untyped_storage().nbytes() + 5 * 4 * norm.BLOCK


def test_no_token_at_all() -> None:
    assert made(torch.float32)(torch.randn(0, 2, 24)).shape == (0, 2, 24)
