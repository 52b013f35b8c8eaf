"""What a simulated rank meets: process groups without ranks, a device without memory.

with a_rank_of(config, on_gpu): …      # within it Trainer(config, …, device=META) is a rank's

Process groups are torch's `fake` backend's, of the run's own sizes: every message is done at once.
Replaced is only what looks at values or at hardware: first values, what dropout draws, the check
that ranks agree, Adam (its states are made, its arithmetic left out), the choice of torch's
attention kernel and of its SGD, on which device DeepSpeed's accelerator says it is, and where a
tensor of a GPU's host says that it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from longseq.config.arguments import Config, Training
from longseq.engine import optimizer
from longseq.engine.network import initialize
from longseq.model import dropout, head_tiles, loss, norm
from longseq.training import trainer

META, HOST = torch.device("meta"), torch.device("cpu")


@contextmanager
def replaced(place: Any, name: str, value: Any) -> Iterator[None]:
    """`place.name` is `value` within."""
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


@contextmanager
def a_rank_of(config: Config, on_gpu: bool) -> Iterator[None]:
    """The world of rank 0 of a run, for as long as nothing else of torch.distributed runs."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    os.environ["LOCAL_RANK"] = "0"  # DeepSpeed insists on it
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=config.layout.world_size)
    try:
        with ExitStack() as all_of:
            for place, name, value in [*_ours(on_gpu), *_deepspeeds()]:
                all_of.enter_context(replaced(place, name, value))
            yield
    finally:
        dist.destroy_process_group()


@contextmanager
def host_apart(is_on_host: Callable[[Tensor], bool]) -> Iterator[None]:
    """A tensor of the host says that it is there, and moving it to the GPU makes a copy: to torch
    both are one device, meta. What follows from either is then where training has it.
    """
    device, to = Tensor.device, Tensor.to

    def where(x: Tensor) -> torch.device:
        by_a_kernel = _get_current_dispatch_mode() is None  # of torch, which takes one device
        return device.__get__(x) if by_a_kernel or not is_on_host(x) else HOST

    def moved(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        found = to(x, *args, **kwargs)
        asked = [y for y in (*args, *kwargs.values()) if isinstance(y, (str, torch.device))]
        copied = found is not x or META not in map(torch.device, asked) or not is_on_host(x)
        return found if copied else torch.ops.aten._to_copy(x, device=META)

    with replaced(Tensor, "device", property(where)), replaced(Tensor, "to", moved):
        yield


def _ours(on_gpu: bool) -> list[tuple[Any, str, Any]]:
    makers = optimizer.MAKERS | {"adam": _states, "sgd": partial(_sgd, on_gpu)}
    found = [
        (trainer, "start_distributed", lambda device: None),
        (initialize, "first_value", lambda path, like, *_: torch.empty(like.shape)),
        (optimizer, "MAKERS", makers),
        (optimizer, "_adam", _states),
        (optimizer, "_host_adam", _host_states),
        (dropout, "_keep", lambda like, *_: torch.empty_like(like)),
        (torch.nn.functional, "scaled_dot_product_attention", _flash),
        (norm, "blocks", lambda x: [slice(0, 1)]),  # all blocks take the same memory, one by one
    ]
    if not on_gpu:  # tensors are on no CPU here: tiles and sums would be a GPU's
        found += [
            (norm, "narrow_on_cpu", lambda x: x.dtype.itemsize == 2),
            (head_tiles, "TILE_BYTES", _of_cpu(head_tiles.TILE_BYTES)),
            (head_tiles, "TILE_TOKENS", _of_cpu(head_tiles.TILE_TOKENS)),
            (loss, "BLOCK", _of_cpu(head_tiles.BLOCK)),
        ]
    return found


def _of_cpu(sizes: dict[str, int]) -> dict[str, int]:
    return dict.fromkeys(sizes, sizes["cpu"])


def _deepspeeds() -> list[tuple[Any, str, Any]]:
    from deepspeed.accelerator import get_accelerator
    from deepspeed.runtime import engine
    from deepspeed.runtime.zero import utils

    accelerator = get_accelerator()
    on_meta = {name: lambda *_: "meta" for name in ("device_name", "current_device_name")}
    return [
        *((accelerator, name, value) for name, value in on_meta.items()),
        (accelerator, "on_accelerator", lambda tensor: tensor.device == META),
        (accelerator, "is_fp16_supported", lambda: True),  # a CPU need not have it
        (accelerator, "pin_memory", lambda tensor, *_: tensor),
        (engine, "is_zero_supported_optimizer", lambda optimizer: True),  # else it warns on stdout
        (utils, "assert_lst_len_same_as_other_ranks", lambda numbers: None),
        (utils, "get_lst_from_rank0", lambda numbers: numbers),
    ]


def _flash(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    enable_gqa: bool = False,
) -> Tensor:
    """torch's flash kernel, [b, heads, s, d] → the same; torch itself takes it where data are."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return kernel(q, k, v, dropout_p, is_causal)[0]


class _Moments(torch.optim.Optimizer):
    """Adam without its arithmetic: the two moments of each parameter."""

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        torch.optim.Optimizer.__init__(self, groups, {"lr": lr, "amsgrad": False})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and not self.state[parameter]:
                    for name in ("exp_avg", "exp_avg_sq"):
                        self.state[parameter][name] = torch.zeros_like(parameter)


def _states(train: Training, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return _Moments(groups, train.lr)


def _sgd(on_gpu: bool, train: Training, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """On GPUs torch takes all parameters at once, which needs more memory."""
    return optimizer.SGD(groups, lr=train.lr, foreach=on_gpu)


def _host_states(train: Training, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """The same, as DeepSpeed's own class, which it insists on for offload."""
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    class HostMoments(_Moments, DeepSpeedCPUAdam):  # type: ignore[misc]
        def __del__(self) -> None:
            """There is no kernel to let go of."""

    host: torch.optim.Optimizer = HostMoments(groups, train.lr)
    return host
