"""Rotary scores depend on distance alone; the tiled loss equals torch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from longseq.model import head_tiles, loss
from longseq.model.rotary import rotary_table, turned_heads


def rotate(x: torch.Tensor, table: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """x [s, b, heads, d], turned as queries with one key and one value head behind them."""
    behind = x.new_zeros(*x.shape[:2], 2, x.shape[3])
    return turned_heads(torch.cat((x, behind), 2), 1, table)[0]


def test_scores_depend_on_distance_alone() -> None:
    torch.manual_seed(1)
    q, k = torch.randn(1, 1, 2, 16), torch.randn(1, 1, 2, 16)

    def score(at_q: int, at_k: int) -> torch.Tensor:
        tables = [rotary_table(torch.tensor([[at]]), 16, 1e4) for at in (at_q, at_k)]
        return (rotate(q, tables[0]) * rotate(k, tables[1])).sum()

    for distance in (0, 1, 100):
        near, far = score(distance, 0), score(1_000_000 + distance, 1_000_000)
        torch.testing.assert_close(near, far, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(score(1, 0), score(2, 0))


def test_rotates_as_complex_numbers_do_and_leaves_the_rest() -> None:
    x = torch.randn(5, 2, 3, 12, dtype=torch.float64)
    table = rotary_table(torch.arange(5)[None], 8, 1e4)
    found = rotate(x, table)
    plane = torch.complex(x[..., :4], x[..., 4:8])
    angles = torch.arange(5.0, dtype=torch.float64)[:, None, None, None] * 1e4 ** (
        -torch.arange(0, 8, 2) / 8
    )
    turned = plane * torch.exp(1j * angles)
    torch.testing.assert_close(found[..., :4], turned.real, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found[..., 4:8], turned.imag, atol=1e-6, rtol=1e-6)
    assert torch.equal(found[..., 8:], x[..., 8:])


def test_queries_and_keys_turn_where_they_are_and_values_stay() -> None:
    x = torch.randn(6, 2, 7, 8)
    before, table = x.clone(), rotary_table(torch.arange(6)[None], 8, 1e4)
    q, k, v = turned_heads(x, 2, table)
    assert [part.data_ptr() for part in (q, k, v)] == [x[:, :, at].data_ptr() for at in (0, 3, 5)]
    assert torch.equal(torch.cat((q, k), 2), rotate(before[:, :, :5], table))
    assert torch.equal(v, before[:, :, 5:])


def test_gradient_is_the_turn_back() -> None:
    x = torch.randn(4, 1, 4, 8, dtype=torch.float64, requires_grad=True)
    table = rotary_table(torch.arange(4)[None], 8, 1e4)
    table = (table[0].double(), table[1].double())
    assert torch.autograd.gradcheck(lambda t: turned_heads(t.clone(), 1, table), (x,))


@pytest.mark.parametrize(("columns", "exchanged"), [(50304, 0), (1572, 2 * 6144)])
def test_a_tile_with_what_ranks_exchange_for_it_fills_what_there_is(
    columns: int, exchanged: int
) -> None:
    """fp32 logits; gathered hidden states, their gradient, and what the others send of that."""
    tokens = head_tiles.tile_tokens("gpu", columns, 1, exchanged)
    each = 4 * columns + 3 * exchanged
    assert tokens * each <= 2**29 < (tokens + 1) * each


@pytest.mark.parametrize("tile_bytes", [1, 4096, 2**30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tiled_loss_equals_cross_entropy(
    tile_bytes: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(head_tiles.TILE_BYTES, "cpu", tile_bytes)
    monkeypatch.setitem(head_tiles.BLOCK, "cpu", 100)  # several blocks of the table
    torch.manual_seed(1)
    hidden = torch.randn(50, 2, 16, dtype=dtype, requires_grad=True)
    table = torch.randn(24, 16, dtype=dtype, requires_grad=True)
    labels, weights = torch.randint(0, 19, (50, 2)), torch.rand(50, 2)
    found = loss.tiled_cross_entropy(hidden, table, labels, weights, 19)
    (2 * found).backward()
    grads = hidden.grad, table.grad
    hidden.grad = table.grad = None
    logits = (hidden @ table.t())[..., :19].float()
    each = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), reduction="none"
    )
    losses = loss.token_losses(hidden, table, labels, 19)
    torch.testing.assert_close(losses.flatten(), each.detach(), rtol=1e-5, atol=1e-5)
    expected = (each * weights.flatten()).sum()
    (2 * expected).backward()
    rtol = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found, expected, rtol=rtol, atol=1e-5)
    for ours, theirs in zip(grads, (hidden.grad, table.grad), strict=True):
        assert ours is not None
        assert theirs is not None
        scale = float(theirs.abs().max())
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol * scale)
    assert grads[1] is not None
    assert bool((grads[1][19:] == 0).all())


@pytest.mark.parametrize("counted", [2**16, 1, 0])
def test_fp16_holds_what_one_of_many_tokens_counts(counted: int) -> None:
    """With a loss scale that comes with backward, against fp32; also where hardly a token counts.

    It may round: the last gradient by 1/2048 of each number.
    """
    tokens, scale = 2**16, 4096.0
    torch.manual_seed(1)
    hidden, table = torch.randn(tokens, 1, 16).half(), (torch.randn(8, 16) / 50).half()
    labels, weights = torch.randint(0, 6, (tokens, 1)), torch.zeros(tokens, 1)
    weights[:counted] = 1 / max(1, counted)

    def gradients(dtype: torch.dtype) -> list[torch.Tensor]:
        inputs = hidden.to(dtype).requires_grad_(), table.to(dtype).requires_grad_()
        total = loss.tiled_cross_entropy(inputs[0], inputs[1], labels, weights, 6)
        return [g.float() for g in torch.autograd.grad(scale * total, inputs)]

    for half, whole in zip(gradients(torch.float16), gradients(torch.float32), strict=True):
        assert float((half - whole).norm()) <= 1e-3 * float(whole.norm())


def test_of_fp16_the_tables_gradient_holds_a_gpus_tile_of_one_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hidden states of up to 200, all pulling at one row the same way."""
    tokens = head_tiles.TILE_TOKENS["gpu"]
    monkeypatch.setitem(head_tiles.TILE_TOKENS, "cpu", tokens)
    hidden, table = torch.zeros(tokens, 1, 8).half(), torch.zeros(8, 8).half()
    hidden[..., 0], table[0, 0] = 200.0, -0.1
    labels, weights = torch.zeros(tokens, 1, dtype=torch.long), torch.ones(tokens, 1) / tokens
    found = loss.tiled_cross_entropy(hidden, table.requires_grad_(), labels, weights, 6)
    (gradient,) = torch.autograd.grad(found, table)
    assert float(gradient[0, 0]) == pytest.approx(-200, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_on_a_gpu_backward_multiplies_by_a_factor_that_is_not_rounded(dtype: torch.dtype) -> None:
    """There a scalar of the device is rounded to what it multiplies: torch.result_type's rule."""
    factors = []

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(
            self, op: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if op is torch.ops.aten.mul_.Tensor:
                factors.append(torch.result_type(*args))
            return op(*args, **(kwargs or {}))

    hidden = torch.zeros(6, 1, 8, dtype=dtype, device="meta", requires_grad=True)
    table = torch.zeros(8, 8, dtype=dtype, device="meta", requires_grad=True)
    labels, weights = (torch.zeros(6, 1, dtype=d, device="meta") for d in (torch.long, None))
    found = loss.tiled_cross_entropy(hidden, table, labels, weights, 6)
    with Watched():
        torch.autograd.grad(found / 3, (hidden, table))
    assert factors == [torch.float32] * 2
