"""fp16's loss scale: DeepSpeed's own, where it multiplies no loss by it or changes it too early.

scale_losses(engine, settings)           # at ZeRO stage 0, whose optimizer is ours
change_after_update(engine.optimizer)    # at stages 1 to 3
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def scale_losses(engine: Any, settings: dict[str, Any]) -> None:
    """Multiply losses by the scale that `settings` ask for; `engine`'s BareOptimizer divides the
    gradients by it, and tells it how it went.
    """
    from deepspeed.runtime.fp16.loss_scaler import CreateLossScaler
    from deepspeed.runtime.precision_config import get_float16_config

    asked = get_float16_config(settings)
    fixed, moving = asked.loss_scale, asked.dynamic_loss_scale_args()
    scaler = CreateLossScaler(torch.half, fixed, fixed == 0, moving)
    engine.optimizer.loss_scaler = scaler
    backward = engine.backward

    def scaled(loss: Tensor) -> None:
        backward(loss * scaler.loss_scale)

    engine.backward = scaled


def is_smallest(scaler: Any) -> bool:
    """Whether this scale can fall no more, where DeepSpeed would raise an exception; a fixed one
    is not meant to.
    """
    return bool(scaler.dynamic and scaler.cur_scale <= scaler.min_scale)


def change_after_update(optimizer: Any) -> None:
    """Change the scale when the update is made, not between the norm and the division.

    DeepSpeed does that there (seen in 0.19.8): the gradients of the step after which the scale
    doubles are divided by twice their scale, and clipped at twice the limit.
    """
    step, change = optimizer.step, optimizer._update_scale
    overflows: list[bool] = []  # what the step has said of itself
    optimizer._update_scale = overflows.append

    def whole(*args: Any, **kwargs: Any) -> None:
        step(*args, **kwargs)
        change(overflows.pop())

    optimizer.step = whole
