"""A call that torch dispatches: its tensors and other leaves, and what it does beside its result.

leaves(args)                      # items of lists of lists
tensors(args, kwargs)             # its tensors
takes_device(func)                # whether it can be told where to work
added_in_place(func, args)        # whether it is autograd's sum into the first of two gradients
without_data(x)                   # x's shape and strides on the meta device
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from longseq.planning.simulate.shapes import META

ADD = torch.ops.aten.add.Tensor


def added_in_place(func: Any, args: Any) -> bool:
    """Whether this is autograd's sum of two gradients of one tensor, the first of them its own.

    It adds to that one, but not while operations are traced (torch/csrc/autograd/input_buffer.cpp).
    """
    if func is not ADD:
        return False
    frame = sys._getframe(2)  # who called __torch_dispatch__
    while frame.f_back and frame.f_globals["__name__"] in (
        "torch._compile",
        "torch._dynamo.eval_frame",
    ):
        frame = frame.f_back
    if frame.f_code.co_name != "_engine_run_backward":
        return False
    storage = args[0].untyped_storage()
    holders = torch._C._storage_Use_Count(storage._cdata) - 1  # `storage` is one
    return bool(holders == 1 and args[0].numel() * args[0].itemsize == storage.nbytes())


@cache
def takes_device(func: Any) -> bool:
    return any(argument.name == "device" for argument in func._schema.arguments)


def leaves(items: Any) -> Iterator[Any]:
    """What lists of lists hold."""
    for item in items:
        if isinstance(item, (list, tuple)):
            yield from leaves(item)
        else:
            yield item


def tensors(args: Any, kwargs: Any) -> Iterator[Tensor]:
    """The tensors of a call: arguments, and items of those that are lists."""
    for item in (*args, *kwargs.values()):
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, (list, tuple)):
            yield from (x for x in item if isinstance(x, Tensor))


def without_data(x: Tensor) -> Tensor:
    """x, or a tensor of its shape and strides on the meta device."""
    if x.is_meta:
        return x
    return torch.empty_strided(x.size(), x.stride(), dtype=x.dtype, device=META)
