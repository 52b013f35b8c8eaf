"""LayerNorm and RMSNorm over the last dimension, [s, b, h] → [s, b, h]."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SumGradientsOf = Callable[..., tuple[Tensor | None, ...]]


def unchanged(*parameters: Tensor | None) -> tuple[Tensor | None, ...]:
    """The parameters themselves, of any shape: nobody else has them."""
    return parameters


class Norm(nn.Module):
    """A norm of `kind` layernorm (weight and bias) or rmsnorm (weight).

    `sum_gradients` gives the parameters as they are used: where several ranks hold them whole and
    each sees some of the tokens, aliases whose gradients are added up.
    """

    def __init__(self, size: int, kind: str, epsilon: float) -> None:
        super().__init__()
        self.kind, self.epsilon = kind, epsilon
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size)) if kind == "layernorm" else None
        self.sum_gradients: SumGradientsOf = unchanged

    def forward(self, x: Tensor) -> Tensor:
        """[s, b, h] → [s, b, h]."""
        weight, bias = self.sum_gradients(self.weight, self.bias)
        if self.kind == "layernorm":
            return F.layer_norm(x, x.shape[-1:], weight, bias, self.epsilon)
        return F.rms_norm(x, x.shape[-1:], weight, self.epsilon)
