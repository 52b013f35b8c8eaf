"""Rows of a table by their numbers; gradients of half precision on a CPU are added up in fp32.

torch adds them up in half precision there, where a letter that comes thousands of times gets the
sum of the first few hundred.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longseq.model import norm


class _Rows(torch.autograd.Function):
    """Rows of a table [n, h], zero where an id is outside of it; keeps the ids alone."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor) -> Tensor:
        """table [n, h], ids of any shape → [*ids, h]."""
        ctx.save_for_backward(ids)
        ctx.rows = table.shape[0]
        found = F.embedding(ids.clamp(0, ctx.rows - 1), table)
        return found.masked_fill_(((ids < 0) | (ids >= ctx.rows))[..., None], 0.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """[*ids, h] → [n, h]."""
        (ids,) = ctx.saved_tensors
        outside = (ids < 0) | (ids >= ctx.rows)
        ids = ids.masked_fill(outside, ctx.rows)  # the padding, which takes no gradient
        if not norm.narrow_on_cpu(grad):
            whole = torch.ops.aten.embedding_dense_backward(
                grad.contiguous(), ids, ctx.rows + 1, ctx.rows, False
            )
            return whole[:-1], None
        sums = grad.new_zeros(ctx.rows + 1, grad.shape[-1], dtype=torch.float32)
        for some in norm.blocks(grad):
            sums.index_add_(0, ids[some].flatten(), grad[some].flatten(0, -2).float())
        return sums[:-1].to(grad.dtype), None


def rows_of(table: Tensor, ids: Tensor) -> Tensor:
    """table [n, h], ids any shape → [*ids, h]; zeros where an id is not in 0 … n - 1."""
    rows: Tensor = _Rows.apply(table, ids)
    return rows


class Tokens(nn.Embedding):
    """torch's embedding, but for the sums above."""

    def forward(self, ids: Tensor) -> Tensor:
        """ids [s, b] → [s, b, h]."""
        if norm.narrow_on_cpu(self.weight):
            return rows_of(self.weight, ids)
        return super().forward(ids)
