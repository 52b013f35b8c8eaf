"""Recomputation put into a plain or parallel GPT, from outside.

    parallelize(model, mesh)
    apply_recompute_policy(model, policy)

With the policy "none" nothing is replaced: each layer runs as it is written and autograd keeps
what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from longseq.attention.kernel import Kernel
from longseq.memory.offload import HostStore
from longseq.memory.recompute import RecomputeOptions, recomputed
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.model.context import Context
from longseq.model.gpt import GPT
from longseq.model.layers import Layer


def apply_recompute_policy(model: GPT, policy: RecomputePolicy, parts: int = 1) -> None:
    """Replace, in place, how the layers of `model` are run.

    parts: tensor-parallel ranks that split the sequence between them, else 1.
    """
    if policy.recompute == "selective":
        for layer in model.layers:
            layer.attention.kernel = _recomputed_kernel(layer.attention.kernel)
    if policy.recompute in ("full", "outside-attention"):
        options = RecomputeOptions(
            tile=max(1, policy.tile // parts),
            keep_attention=policy.recompute == "outside-attention",
            parts=parts,
            store=HostStore() if policy.inputs_on_host else None,
        )
        count = policy.layers if policy.method == "block" else len(model.layers)
        for layer in model.layers[:count]:
            layer.run = partial(recomputed, options=options)
        if policy.method == "uniform" and policy.layers > 1:
            model.run_layers = partial(in_groups, policy.layers)


def _again(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """function(*arguments), of which only the arguments are kept until backward.

    Dropout is a function of its place and of the forward pass, so no random state needs keeping.
    """
    if not torch.is_grad_enabled():
        return function(*arguments)
    result: Tensor = checkpoint(
        function,
        *arguments,
        use_reentrant=False,
        preserve_rng_state=False,
        determinism_check="none",
    )
    return result


def _recomputed_kernel(kernel: Kernel) -> Kernel:
    """An attention kernel that computes its scores again in backward."""
    return partial(_again, kernel)


def in_groups(size: int, layers: Sequence[Layer], x: Tensor, context: Context) -> Tensor:
    """Layer after layer, [s, b, h] → [s, b, h]; only every `size`-th one's input is kept."""

    def group_of(start: int, x: Tensor) -> Tensor:
        for layer in layers[start : start + size]:
            x = layer(x, context)
        return x

    for start in range(0, len(layers), size):
        x = _again(group_of, start, x)
    return x
