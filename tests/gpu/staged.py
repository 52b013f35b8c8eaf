"""gloo for tensors of a GPU: torch.distributed's messages through host memory. For proof alone.

    stage(lambda x: x.is_cuda)       # before DeepSpeed starts, which keeps some of them

NCCL refuses two ranks on one GPU, and gloo takes few of these calls with tensors of one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch import Tensor

# What longseq.parallel and DeepSpeed's ZeRO call
CALLS = """all_reduce reduce broadcast all_gather all_gather_into_tensor reduce_scatter_tensor
    isend irecv""".split()
Pairs = list[tuple[Tensor, Tensor]]


def stage(far: Callable[[Tensor], bool]) -> None:
    """From here on, tensors that are `far` are sent from, and received into, copies on the host."""
    for name in CALLS:
        setattr(dist, name, _staged(getattr(dist, name), far, receives=name != "isend"))


class _Arriving:
    """A request on copies, which wait() puts where they belong."""

    def __init__(self, request: Any, pairs: Pairs) -> None:
        self.request, self.pairs = request, pairs

    def wait(self) -> bool:
        if self.request is not None:
            self.request.wait()
        for x, copy in self.pairs:
            x.copy_(copy)
        self.pairs = []
        return True


def _staged(call: Any, far: Callable[[Tensor], bool], receives: bool) -> Any:
    """`call` on copies; its first argument takes the result, where it `receives` one."""
    signature = inspect.signature(call)
    first = next(iter(signature.parameters))

    @functools.wraps(call)
    def staged(*args: Any, **kwargs: Any) -> Any:
        results: Pairs = []

        def on_host(x: Any, pairs: Pairs) -> Any:
            if isinstance(x, list):
                return [on_host(one, pairs) for one in x]
            if not isinstance(x, Tensor) or not far(x):
                return x
            pairs.append((x, x.detach().to("cpu", copy=True)))
            return pairs[-1][1]

        given = signature.bind(*args, **kwargs).arguments
        given = {n: on_host(x, results if n == first else []) for n, x in given.items()}
        arriving = _Arriving(call(**given), results if receives else [])
        if arriving.request is not None:
            return arriving
        arriving.wait()
        return None

    return staged
