"""ZeRO stage 3: products that keep their weight's parameter for backward, not the gathered matrix.

    keep_parameters(model)      # in place, before weights are cut up

torch's linear keeps weight.t(), a view, which holds the gathered memory until backward, whatever
DeepSpeed does with the parameter: layers that are not recomputed would all be whole at once. The
parameter is empty between its uses, and gathered again before backward. DeepSpeed's own such
product adds the bias after rounding, and is not used (ds_config.py).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longseq.parallel.tensor import ColumnParallelLinear, RowParallelLinear


def keep_parameters(model: nn.Module) -> None:
    """Let each linear of the network multiply so, on whatever layout."""
    for module in model.modules():
        if isinstance(module, ColumnParallelLinear | RowParallelLinear):
            module.linear = linear
        elif isinstance(module, nn.Linear):
            vars(module)["forward"] = partial(_forward, module)


def _forward(module: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, module.weight, module.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [s, b, i], weight [o, i], bias [o] → [s, b, o]."""
    y: Tensor = _Linear.apply(x, weight, bias)
    return y


class _Linear(torch.autograd.Function):
    """y = x Wᵀ + bias; keeps x and the parameter W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Shapes as in `linear`."""
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """dy [s, b, o] → gradients in the shapes of x, weight and bias."""
        x, weight = ctx.saved_tensors
        rows = dy.flatten(0, -2)
        db = rows.sum(0) if ctx.has_bias else None
        return dy @ weight, rows.t() @ x.flatten(0, -2), db
