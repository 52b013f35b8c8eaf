"""Recomputation put into a plain or parallel GPT, from outside.

    parallelize(model, mesh)
    apply_recompute_policy(model, policy)

With the policy "none" nothing is replaced: each layer runs as it is written and autograd keeps
what it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from longseq.attention.kernel import Kernel
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.memory.recomputing import pointwise
from longseq.memory.recomputing.layer import RecomputeOptions, recomputed
from longseq.memory.recomputing.offload import HostStore, Ticket
from longseq.memory.recomputing.pointwise import again
from longseq.model.context import Context
from longseq.model.gpt import GPT
from longseq.model.layers import Layer


def apply_recompute_policy(model: GPT, policy: RecomputePolicy, parts: int = 1) -> None:
    """Replace, in place, how the layers of `model` are run.

    parts: tensor-parallel ranks that split the sequence between them, else 1.
    """
    count = len(model.layers)
    if policy.recompute == "selective":
        for layer in model.layers:
            layer.attention.kernel = _recomputed_kernel(layer.attention.kernel)
    if policy.recompute in ("full", "outside-attention"):
        store = HostStore() if policy.inputs_on_host else None
        grouped = policy.method == "uniform" and policy.layers > 1
        options = RecomputeOptions(
            tile=max(1, policy.tile // parts),
            keep_attention=policy.recompute == "outside-attention",
            parts=parts,
            store=None if grouped else store,
        )
        for layer in model.layers[: policy.whole_layers(count)]:
            layer.run = partial(recomputed, options=options)
        if grouped:
            model.run_layers = partial(in_groups, policy.layers, store=store)
    for layer in model.layers[count - policy.pointwise_layers(count) :]:
        layer.before = pointwise.before_attention
        layer.after = pointwise.after_attention


def _recomputed_kernel(kernel: Kernel) -> Kernel:
    """An attention kernel that computes its scores again in backward."""
    return partial(again, kernel)


def in_groups(
    size: int,
    layers: Sequence[Layer],
    x: Tensor,
    context: Context,
    store: HostStore | None = None,
) -> Tensor:
    """Layer after layer, [s, b, h] → [s, b, h]; only every `size`-th one's input is kept, in
    `store` where there is one: what layers put there in a forward pass that is made again nobody
    would take.
    """

    def group_of(start: int, x: Tensor) -> Tensor:
        for layer in layers[start : start + size]:
            x = layer(x, context)
        return x

    for start in range(0, len(layers), size):
        with _waiting(store) if store else nullcontext():
            x = again(group_of, start, x)
    return x


def _waiting(store: HostStore) -> saved_tensors_hooks:
    """While it is open, what autograd itself keeps waits in `store`: of a group, whose insides
    have hooks of their own, its input.
    """

    def pack(x: Tensor) -> Any:
        return store.put(x) if x.numel() else x  # older torch keeps an empty one as well

    def unpack(kept: Any) -> Tensor:
        return store.take(kept) if isinstance(kept, Ticket) else kept

    return saved_tensors_hooks(pack, unpack)
