"""The core kernel makes its scores in blocks: the same numbers, and never [s, s]."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from longseq.attention.kernel import AttentionDropout, Documents
from longseq.attention.kernels import core
from longseq.attention.kernels.core import ScoreBlock, forbidden
from longseq.attention.kernels.core import attend as core_attention
from tests.unit.attention.plain import plain_attention, plain_weights, visible
from tests.unit.attention.watch import Watch

S, B, D = 70, 2, 8
DOCUMENTS = ((7, 8, 31, 70), (40,))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 queries at a time, so that 70 tokens are five blocks, the last a short one."""
    monkeypatch.setattr(core, "BLOCK_BYTES", 0)


def draw(groups: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    q = torch.randn(S, B, 4, D, requires_grad=True)
    k, v = (torch.randn(S, B, groups, D, requires_grad=True) for _ in range(2))
    return q, k, v


def gradients(y: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return torch.autograd.grad((y * weights).sum(), inputs)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("documents", [None, DOCUMENTS])
@pytest.mark.parametrize("groups", [4, 2, 1])
def test_blocks_give_the_plain_formula(documents: Documents, groups: int) -> None:
    inputs = draw(groups)
    found, wanted = core_attention(*inputs, documents, None), plain_attention(*inputs, documents)
    torch.testing.assert_close(found, wanted.float(), rtol=0, atol=1e-6)
    for mine, theirs in zip(gradients(found, inputs), gradients(wanted, inputs), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("documents", [None, DOCUMENTS])
def test_backward_drops_what_forward_dropped(documents: Documents) -> None:
    """The weights after dropout are read off with one-hot values, then differentiated plainly."""
    q, k, v = inputs = draw()
    dropout = AttentionDropout(0.3, 11)
    one_hot = torch.eye(S)[:, None, None].expand(S, B, 4, S)
    dropped = core_attention(q, k, one_hot, documents, dropout).permute(1, 2, 0, 3)
    kept = (dropped != 0) / 0.7
    seen = visible(S, B, documents)[:, None].expand_as(kept)
    assert 0.65 < (kept[seen] > 0).double().mean() < 0.75
    torch.testing.assert_close(dropped, (plain_weights(q, k, documents) * kept).float())
    found = core_attention(q, k, v, documents, dropout)
    wanted = plain_attention(q, k, v, documents, kept)
    torch.testing.assert_close(found, wanted.float())
    for mine, theirs in zip(gradients(found, inputs), gradients(wanted, inputs), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("small_blocks")
def test_no_two_blocks_drop_alike() -> None:
    q, k = (torch.zeros(S, 1, 1, D) for _ in range(2))
    one_hot = torch.eye(S)[:, None, None]
    kept = core_attention(q, k, one_hot, None, AttentionDropout(0.5, 3))[:, 0, 0] != 0
    rows = [kept[start : start + 16, :16] for start in (16, 32, 48)]
    assert not any(torch.equal(a, b) for a, b in pairwise(rows))


@pytest.mark.parametrize("documents", [None, DOCUMENTS])
def test_a_masks_tile_is_boolean_in_host_memory(documents: Documents) -> None:
    mask = forbidden(ScoreBlock(slice(5, 33), slice(3, 33)), documents)
    assert (mask.dtype, mask.device.type) == (torch.bool, "cpu")
    wanted = ~visible(S, B, documents)[:, 5:33, 3:33]
    assert torch.equal(mask[:, 0, 0].expand_as(wanted), wanted)


def step(attend: object, s: int) -> Watch:
    q, k, v = (torch.randn(s, 1, 2, D, requires_grad=True) for _ in range(3))
    with Watch() as watch:
        attend(q, k, v, None, AttentionDropout(0.1, 1)).sum().backward()  # type: ignore[operator]
    return watch


def test_memory_grows_with_the_sequence_not_its_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """One block's fp32 scores are the largest tensor, and few are alive at once; 4096 tokens."""
    monkeypatch.setattr(core, "BLOCK_BYTES", 2 << 20)
    watch = step(core_attention, 4096)
    assert watch.largest <= 2 << 20
    assert watch.peak <= 8 * (2 << 20)
    square = 2 * 4096 * 4096  # booleans of two heads
    assert watch.peak < square


def test_the_watch_sees_a_square() -> None:
    """The check above fails where there is something to see, in backward as in forward."""

    def whole(q: Tensor, k: Tensor, v: Tensor, *_: object) -> Tensor:
        return plain_attention(q, k, v, None)

    assert step(whole, 256).largest >= 2 * 256 * 256 * 8
