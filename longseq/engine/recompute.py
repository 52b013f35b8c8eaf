"""What saves memory, put into a plain or parallel GPT, from outside.

    parallelize(model, mesh)
    save_memory(model, savings)

Without savings nothing is replaced: each layer runs as it is written and autograd keeps what it
needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from longseq.memory.offload import HostStore
from longseq.memory.recompute import How, recomputed
from longseq.memory.recompute_policy import RecomputePolicy


def save_memory(model: Any, savings: RecomputePolicy, parts: int = 1) -> None:
    """Replace, in place, how the layers of `model` are run.

    parts: tensor-parallel ranks that split the sequence between them, else 1.
    """
    if savings.recompute == "selective":
        for layer in model.layers:
            layer.attention.kernel = partial(_kernel_again, layer.attention.kernel)
    if savings.recompute in ("full", "outside-attention"):
        how = How(
            tile=max(1, savings.tile // parts),
            keep_attention=savings.recompute == "outside-attention",
            parts=parts,
            store=HostStore() if savings.inputs_on_host else None,
        )
        count = savings.layers if savings.method == "block" else len(model.layers)
        for layer in model.layers[:count]:
            layer.through = partial(_through, how)
        if savings.method == "uniform" and savings.layers > 1:
            model.stack = partial(in_groups, savings.layers)


def _through(how: How, layer: Any, x: Tensor, context: Any) -> Tensor:
    return recomputed(layer, x, context, how)


def _again(function: Any, *arguments: Any) -> Any:
    """function(*arguments), of which only the arguments are kept.

    Dropout is a function of its place and of the forward pass, so no random state needs keeping.
    """
    return checkpoint(
        function,
        *arguments,
        use_reentrant=False,
        preserve_rng_state=False,
        determinism_check="none",
    )


def _kernel_again(kernel: Any, *arguments: Any) -> Tensor:
    """An attention kernel that makes its scores again in backward."""
    if not torch.is_grad_enabled():
        return kernel(*arguments)
    return _again(kernel, *arguments)


def in_groups(size: int, layers: Sequence[Any], x: Tensor, context: Any) -> Tensor:
    """Layer after layer, of which only every `size`-th one's input is kept."""

    def through(group: Sequence[Any], x: Tensor) -> Tensor:
        for layer in group:
            x = layer(x, context)
        return x

    for start in range(0, len(layers), size):
        group = layers[start : start + size]
        x = _again(through, group, x) if torch.is_grad_enabled() else through(group, x)
    return x
