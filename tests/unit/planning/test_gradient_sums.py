"""What a traced backward holds, against what torch does where nothing traces it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from longseq.planning.simulate.trace import Trace

ROWS, H = 4096, 64
TABLE = ROWS * H * 4  # bytes
kept: list[Tensor] = []


class _Head(torch.autograd.Function):
    """x [n, h], table [rows, h] → a number; its gradient of the table is a tensor of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, keeps: bool) -> Tensor:
        ctx.save_for_backward(x, table)
        ctx.keeps = keeps
        return x.sum() + table.sum()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, table = ctx.saved_tensors
        gradient = torch.ones_like(table)
        if ctx.keeps:
            kept.append(gradient.view(-1))
        return torch.ones_like(x), gradient, None


def tied_step(device: str, keeps: bool) -> None:
    """Forward and backward of tokens that a table embeds and reads again."""
    kept.clear()
    table = nn.Parameter(torch.empty(ROWS, H, device=device))
    tokens = torch.zeros(8, dtype=torch.long, device=device)
    _Head.apply(nn.functional.embedding(tokens, table), table, keeps).backward()


@pytest.mark.parametrize(("keeps", "sums", "tables"), [(False, "aten::add_", 3), (True, None, 4)])
def test_gradients_are_summed_where_autograd_sums_them(
    keeps: bool, sums: str | None, tables: int
) -> None:
    """The table and two gradients of it; a third for the sum where somebody holds the first."""
    with profile(activities=[ProfilerActivity.CPU]) as done:
        tied_step("cpu", keeps)
    in_place = [event.key for event in done.key_averages() if event.key == "aten::add_"]
    assert in_place == [sums] * (sums is not None)
    with Trace(on_gpu=False) as trace:
        tied_step("meta", keeps)
    assert trace.peak.total == pytest.approx(tables * TABLE, rel=0.01)
