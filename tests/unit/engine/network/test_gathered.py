"""Products at ZeRO stage 3 are torch's, and let a gathered weight go between its uses."""

from __future__ import annotations

import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from longseq.engine.network.gathered import keep_parameters, linear


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_the_numbers_of_torchs_linear(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(0)
    given = [torch.randn(shape, dtype=dtype) for shape in ((6, 2, 5), (3, 5), (3,))][: 2 + bias]
    dy = torch.randn(6, 2, 3, dtype=dtype)
    found = []
    for product in (linear, F.linear):
        leaves = [x.clone().requires_grad_() for x in given]
        y = product(*leaves)
        found.append([y, *torch.autograd.grad(y, leaves, dy)])
    for ours, theirs in zip(*found, strict=True):
        if dtype == torch.bfloat16:
            assert torch.allclose(ours.float(), theirs.float(), rtol=1e-2, atol=1e-2)
        else:
            assert torch.allclose(ours, theirs, rtol=1e-14, atol=1e-14)
    assert torch.equal(found[0][0], found[1][0])


@pytest.mark.parametrize("ours", [True, False])
def test_nothing_holds_a_weight_between_its_uses(ours: bool) -> None:
    """DeepSpeed gathers it before a use, and empties it after. torch's own linear holds it."""
    layer = nn.Linear(4, 3)
    if ours:
        keep_parameters(layer)
    x = torch.randn(2, 1, 4, requires_grad=True)
    whole = layer.weight.detach().clone()
    memory = whole.numpy().copy()
    gathered = weakref.ref(memory)
    layer.weight.data = torch.from_numpy(memory)
    del memory
    y = layer(x)
    layer.weight.data = torch.empty(0)
    assert (gathered() is None) == ours
    layer.weight.data = whole
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(dx, whole.sum(0).expand_as(dx))
