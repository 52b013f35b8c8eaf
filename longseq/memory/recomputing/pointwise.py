"""A layer of which backward makes norms and activation functions again, and nothing else.

    layer.before, layer.after = before_attention, after_attention

What a norm or an activation function gives is kept by the matrix product behind it, for its
weight's gradient: six of sixteen hidden states of a layer. Here the product keeps how it is made,
from what norm and function keep anyway; this costs a pass over memory and no product. (Megatron
calls the same output discarding; arXiv 2205.05198 has the count.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from longseq.attention.exchange import Three
from longseq.host.uncompiled import load_compiler
from longseq.model.context import Context
from longseq.model.layers import Layer


def again(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """function(*arguments), of which only the arguments are kept until backward.

    Dropout is a function of its place and of the forward pass, so no random state needs keeping.
    """
    if not torch.is_grad_enabled():
        return function(*arguments)
    if not torch.compiler.is_compiling():
        load_compiler()  # torch is about to
    result: Tensor = checkpoint(
        function,
        *arguments,
        use_reentrant=False,
        preserve_rng_state=False,
        determinism_check="none",
    )
    return result


def made_again(y: Tensor, make: Callable[[], Tensor]) -> Any:
    """While it is open, what autograd keeps of `y` is `make`, which gives the same tensor anew.

    y: of any shape, in memory of its own.
    """
    place = y.untyped_storage()._cdata  # by identity: without memory there is no address

    def pack(saved: Tensor) -> Any:
        if saved.untyped_storage()._cdata != place:
            return saved
        return saved.size(), saved.stride(), saved.storage_offset()

    def unpack(packed: Any) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        with torch.no_grad():
            return make().as_strided(*packed)

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def before_attention(layer: Layer, x: Tensor, context: Context) -> Three:
    """What a layer does before attention; shapes as in Layer.heads."""
    make = partial(layer.attention_norm, x)
    normed = make()
    with made_again(normed, make):
        return layer.attention.heads(normed, context)


def after_attention(layer: Layer, x: Tensor, attended: Tensor, context: Context) -> Tensor:
    """What it does after attention; shapes as in Layer.finish."""
    mlp = layer.mlp
    y = layer.attention.projection(attended.flatten(2))
    x = x + layer.attention_dropout(y, context.forward_pass, context.first)
    make = partial(layer.mlp_norm, x)
    normed = make()
    with made_again(normed, make):
        up = mlp.up(normed)
    del normed
    # SwiGLU would keep its gate's sigmoid part as well
    active = again(mlp.activate, up) if mlp.gated else mlp.activate(up)
    with made_again(active, partial(mlp.activate, up)):
        y = mlp.down(active)
    del active
    return x + layer.mlp_dropout(y, context.forward_pass, context.first)
