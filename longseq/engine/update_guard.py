"""The moment between the gradient's norm and the update, at every ZeRO stage.

    hold_updates(engine, may_update, loss)   # may_update(loss, norm) -> bool; loss() -> float

DeepSpeed measures the whole gradient's norm inside its step and updates right after; here somebody
is asked in between. The norm is the same on all ranks, and not finite on any where a gradient is
not finite on one, so all ranks give the same answer without a word. An update that is refused takes
the way of an fp16 overflow: gradients are dropped, weights and optimizer stay as they are.

In fp16 an overflow is normal: it is skipped, the loss scale falls, and nobody is asked. Where the
loss itself is not finite, or the scale can fall no more, it is none; and what somebody is asked of
does not change the scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from longseq.engine.loss_scale import is_smallest
from longseq.engine.stage0 import BareOptimizer

MayUpdate = Callable[[float], bool]


def hold_updates(
    engine: Any, may_update: Callable[[float, float], bool], loss: Callable[[], float]
) -> None:
    """Ask `may_update` before each update of `engine`; False: it is left out.

    loss: the step's, the same on all ranks; called when the norm is there.
    """
    optimizer = engine.optimizer

    def ask(norm: float) -> bool:
        return may_update(loss(), norm)

    def is_overflow() -> bool:
        return math.isfinite(loss()) and not is_smallest(optimizer.loss_scaler)

    if isinstance(optimizer, BareOptimizer):
        optimizer.may_update, optimizer.is_overflow = ask, is_overflow
    elif hasattr(optimizer, "get_grads_for_norm"):
        _hold_bf16(optimizer, ask)
    else:
        _hold_zero(engine, ask, is_overflow)


def _hold_zero(engine: Any, may_update: MayUpdate, is_overflow: Callable[[], bool]) -> None:
    """DeepSpeed's optimizers of stages 1 to 3: a norm where they measure it, or the overflow for
    which they do not. What they tell the loss scale is corrected.
    """
    optimizer, fp16 = engine.optimizer, engine.fp16_enabled()
    if not fp16:
        optimizer.check_grad_overflow = False  # else stage 2 drops a step before anybody is asked
    name = "_get_norm_groups" if engine.zero_optimization_stage() == 3 else "scaled_global_norm"
    check, measure, tell = (
        optimizer.check_overflow,
        getattr(optimizer, name),
        optimizer._update_scale,
    )
    refused: list[float] = []

    def judge(norm: float) -> None:
        if fp16 and not math.isfinite(norm) and is_overflow():
            optimizer.overflow = True
        elif not may_update(norm):
            optimizer.overflow = True
            refused.append(norm)

    def checked(*args: Any, **kwargs: Any) -> None:
        check(*args, **kwargs)
        if optimizer.overflow:
            judge(math.inf)

    def measured() -> Any:
        found = measure()
        judge(_whole(found) / optimizer.loss_scale)
        return found

    def told(overflow: bool) -> None:
        tell(overflow and not refused)
        refused.clear()

    optimizer.check_overflow, optimizer._update_scale = checked, told
    setattr(optimizer, name, measured)


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
