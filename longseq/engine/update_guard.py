"""The moment between the gradient's norm and the update, at every ZeRO stage.

    hold_updates(engine, may_update)     # may_update(norm) -> bool

DeepSpeed measures the whole gradient's norm inside its step and updates right after; here somebody
is asked in between. The norm is the same on all ranks, and not finite on any where a gradient is
not finite on one, so all ranks give the same answer without a word. An update that is refused takes
the way of an fp16 overflow: gradients are dropped, weights and optimizer stay as they are.

In fp16 an overflow is normal, and DeepSpeed skips it before it measures: then nobody is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from longseq.engine.stage0 import BareOptimizer

MayUpdate = Callable[[float], bool]


def hold_updates(engine: Any, may_update: MayUpdate) -> None:
    """Ask `may_update` before each update of `engine`; False: it is left out."""
    optimizer = engine.optimizer
    if isinstance(optimizer, BareOptimizer):
        optimizer.may_update = may_update
        return
    if hasattr(optimizer, "get_grads_for_norm"):
        _hold_bf16(optimizer, may_update)
        return
    if not engine.fp16_enabled():
        optimizer.check_grad_overflow = False  # else stage 2 drops a step before anybody is asked
    stage_3 = engine.zero_optimization_stage() == 3
    name = "_get_norm_groups" if stage_3 else "scaled_global_norm"
    measure = getattr(optimizer, name)

    def ask() -> Any:
        measured = measure()
        norm = _whole(measured) / optimizer.loss_scale
        if not may_update(norm):
            optimizer.overflow = True
        return measured

    setattr(optimizer, name, ask)


def _hold_bf16(optimizer: Any, may_update: MayUpdate) -> None:
    """DeepSpeed's wrapper for bf16 at stage 1 with accumulation: its norm is a local variable, so
    it is measured once more, and a refusal hands over a gradient that has none.
    """
    from deepspeed.runtime.utils import get_global_norm_of_tensors

    gradients = optimizer.get_grads_for_norm

    def ask(for_clipping: bool = False) -> Any:
        found = gradients(for_clipping=for_clipping)
        if for_clipping:
            return found
        norm = get_global_norm_of_tensors(found[0], mpu=optimizer.mpu)
        if may_update(_whole(norm)):
            return found
        return [torch.full_like(found[0][0], torch.inf), *found[0][1:]], found[1]

    optimizer.get_grads_for_norm = ask


def _whole(measured: Any) -> float:
    """One norm of one or several; DeepSpeed marks one that is not finite with -1."""
    from deepspeed.runtime.utils import combine_grad_norm_groups

    parts = measured if isinstance(measured, list | tuple) else [measured]
    return float(combine_grad_norm_groups(parts))


def was_left_out(engine: Any) -> bool:
    """Whether the last step updated nothing: refused, or an overflow of fp16."""
    return bool(getattr(engine.optimizer, "overflow", False))


@torch.no_grad()
def are_finite(model: nn.Module) -> bool:
    """Whether all weights that this rank holds, whole or in part, are finite numbers; by their
    norms, so that weights above 1e19, which no network has, count as none.
    """
    held = [part for p in model.parameters() if (part := _held(p)).numel()]
    return not held or bool(torch.stack(torch._foreach_norm(held)).isfinite().all())


def _held(parameter: Any) -> Tensor:
    """What this rank has of a parameter in memory. At stage 3 that is a slice, the last of which
    DeepSpeed fills up with what it finds in memory.
    """
    if not hasattr(parameter, "ds_tensor"):
        return parameter.detach()
    part: Tensor = parameter.ds_tensor.detach()
    if not part.numel() or not part.data_ptr():  # it lies in a file
        return part[:0]
    start = part.numel() * dist.get_rank(parameter.ds_process_group)
    return part[: max(0, parameter.ds_numel - start)]
