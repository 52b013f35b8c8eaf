"""Dropout agrees where ranks hold the same, differs where they hold different parts."""

from __future__ import annotations

import pytest
import torch

from longseq.config.checks import parse_config
from longseq.model import dropout
from longseq.model.dropout import Dropout
from longseq.parallel.mesh import Group, Mesh

BLOCK_ROWS = dropout._block_rows


def dropped(region: int, forward_pass: int = 0, place: int = 0) -> torch.Tensor:
    layer = Dropout(0.5, seed=1, place=place)
    layer.region = region
    return layer(torch.ones(64, 2, 8), forward_pass)


def test_keeps_the_mean_and_drops_the_asked_part() -> None:
    y = Dropout(0.25, seed=1, place=0)(torch.ones(1000, 1000), 0)
    assert abs(float((y == 0).float().mean()) - 0.25) < 2e-3
    assert abs(float(y.mean()) - 1) < 5e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_kept_is_as_much_larger_in_any_precision(dtype: torch.dtype) -> None:
    x = torch.rand(1000, 1000).add_(1).to(dtype).requires_grad_()
    y = Dropout(0.1, seed=1, place=0)(x, 0)
    (gradient,) = torch.autograd.grad(y, x, x.detach())
    assert torch.equal(gradient, y)
    kept = y.detach().double()
    larger = float(kept.sum() / x.detach().double()[kept != 0].sum())
    assert larger == pytest.approx(1 / 0.9, rel=1e-4)


def test_a_function_of_region_draw_and_place() -> None:
    assert torch.equal(dropped(3), dropped(3))
    for other in (dropped(4), dropped(3, forward_pass=1), dropped(3, place=1)):
        assert not torch.equal(dropped(3), other)


@pytest.mark.parametrize("numbers", [0, 40 * 16, 2**14])
def test_a_tile_drops_what_the_whole_does(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the blocks of a CPU and, of other sizes, those of GPUs."""
    if numbers:
        monkeypatch.setattr(dropout, "NUMBERS", numbers)
        monkeypatch.setattr(dropout, "_block_rows", lambda _: gpu_rows(2, 8))
    layer, x = Dropout(0.5, seed=1, place=0), torch.ones(150, 2, 8, requires_grad=True)
    whole = layer(x, 3)
    for size in (1, 24, 64, 100):
        tiles = [layer(x[at : at + size], 3, at) for at in range(0, 150, size)]
        assert torch.equal(torch.cat(tiles), whole)
    (gradient,) = torch.autograd.grad(layer(x[70:90], 3, 70).sum(), x)
    assert torch.equal(gradient[70:90], whole[70:90])


def gpu_rows(*shape: int) -> int:
    return BLOCK_ROWS(torch.empty(1000, *shape, device="meta"))


def test_a_gpus_blocks_are_as_large_as_a_launch_is_worth() -> None:
    """Powers of two, as tiles are: 2^24 numbers of these."""
    assert [gpu_rows(1, 6144), gpu_rows(4, 512), gpu_rows(1, 2**23)] == [512, 2048, 1]


def test_blocks_differ() -> None:
    y = Dropout(0.5, seed=1, place=0)(torch.ones(128, 64), 0)
    assert not torch.equal(y[:64], y[64:])


def test_gradient_is_dropped_where_the_output_is() -> None:
    x = torch.ones(64, 2, 8, requires_grad=True)
    y = Dropout(0.5, seed=1, place=0)(x, 0)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.detach())


def test_off_in_evaluation() -> None:
    x = torch.ones(8)
    assert Dropout(0.5, seed=1, place=0).eval()(x, 0) is x


def regions(flags: str, ranks: int) -> list[int]:
    """token_region of every rank of a layout, without process groups."""
    from longseq.parallel.mesh import coordinates

    layout = parse_config(["--num-attention-heads", "8", *flags.split()], ranks).layout
    found = []
    for rank in range(ranks):
        at = coordinates(rank, layout.axes)
        replica = at["ulysses"] + layout.ulysses * (at["ring"] + layout.ring * at["dp"])
        tp = Group("tp", at["tp"], layout.tp)
        groups = {name: Group(name) for name in ("ulysses", "ring", "dp")}
        replicas = Group("replicas", replica, ranks // layout.tp)
        mesh = Mesh(**groups, tp=tp, replicas=replicas, sequence_parallel=layout.sequence_parallel)
        found.append(mesh.token_region)
    return found


def test_regions_differ_exactly_where_tokens_differ() -> None:
    split = regions("--tensor-model-parallel-size 2 --sequence-parallel", 4)
    assert len(set(split)) == 4
    whole = regions("--tensor-model-parallel-size 2", 4)
    assert whole[0] == whole[1] != whole[2] == whole[3]
