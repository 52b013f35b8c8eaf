"""RMSNorm against torch's, and what it keeps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from longseq.model import norm
from longseq.model.norm import Norm
from tests.unit.attention.watch import Watch


def made(dtype: torch.dtype) -> Norm:
    layer = Norm(24, "rmsnorm", 1e-5).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(24, dtype=torch.float64))
    return layer


@pytest.mark.parametrize("block", [1, 24 * 2 * 5, 2**18])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 8e-3)],
)
def test_values_and_gradients_are_torchs(
    block: int, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(norm, "BLOCK", block)
    torch.manual_seed(3)
    layer = made(dtype)
    x, dy = torch.randn(13, 2, 24, dtype=dtype), torch.randn(13, 2, 24, dtype=dtype)
    before = x.clone()
    x.requires_grad_()
    wide, weight = (t.detach().double().requires_grad_() for t in (x, layer.weight))
    y, wanted = layer(x), F.rms_norm(wide, (24,), weight, 1e-5)
    found = (y, *torch.autograd.grad(y, [x, layer.weight], dy))
    due = (wanted, *torch.autograd.grad(wanted, [wide, weight], dy.double()))
    for got, want in zip(found, due, strict=True):
        assert got.dtype == dtype
        assert (got.double() - want).abs().max() <= tolerance * want.abs().max()
    assert torch.equal(x, before)


def test_of_half_precision_no_fp32_copy_is_ever_whole() -> None:
    layer = made(torch.bfloat16)
    x = torch.randn(40_000, 1, 24).bfloat16().requires_grad_()
    with Watch() as watch:
        layer(x).backward(torch.ones_like(x))
    # Its result, both gradients, a number a token, and a few copies of a block
    assert watch.peak < 4 * x.untyped_storage().nbytes() + 5 * 4 * norm.BLOCK


def test_no_token_at_all() -> None:
    assert made(torch.float32)(torch.randn(0, 2, 24)).shape == (0, 2, 24)
