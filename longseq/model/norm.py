"""LayerNorm and RMSNorm over the last dimension, [s, b, h] → [s, b, h]."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _as_they_are(*parameters: Tensor | None) -> tuple[Tensor | None, ...]:
    return parameters


class Norm(nn.Module):
    """`share` sees the parameters before their use; sequence parallelism sums gradients there."""

    def __init__(self, size: int, kind: str, epsilon: float) -> None:
        super().__init__()
        self.kind, self.epsilon = kind, epsilon
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size)) if kind == "layernorm" else None
        self.share: Callable[..., tuple[Tensor | None, ...]] = _as_they_are

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.share(self.weight, self.bias)
        if self.kind == "layernorm":
            return F.layer_norm(x, x.shape[-1:], weight, bias, self.epsilon)
        return F.rms_norm(x, x.shape[-1:], weight, self.epsilon)
