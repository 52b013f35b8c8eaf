"""What a layer does token by token, compiled by torch: put into the network from outside.

    parallelize(model, mesh)
    if wants_compiling(config, device):
        compile_layers(model)

Both halves of a layer around attention are compiled, once for all layers: what stands between two
matrix products (norm, rotary positions, GELU or SwiGLU, residual) becomes one kernel, forward and
backward, in which numbers are not rounded between one operation and the next. Attention kernels,
messages between ranks and dropout, whose mask a seed repeats, stay as they are written: the
compiled parts end there and begin again. Without, the same functions run as they are written: the
reference that tests hold the compiled ones to.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from longseq.config.arguments import Config
from longseq.errors import UserError
from longseq.model.gpt import GPT
from longseq.model.layers import after_attention, before_attention

SHAPES = 64  # that a function may be compiled for: training and not, tiles, lengths of a curriculum


def wants_compiling(config: Config, device: torch.device) -> bool:
    """Whether --compile means it on this device; raises UserError where it cannot be.

    ZeRO stage 3 takes weights away between their uses, and compiled code would keep views of them.
    """
    asked, on_cpu = config.training.compile, device.type == "cpu"
    if asked == "off" or (asked == "auto" and (on_cpu or config.training.zero_stage == 3)):
        return False
    if not on_cpu and importlib.util.find_spec("triton") is None:
        raise UserError(
            f"--compile {asked} (COMPILE={asked}): torch compiles for GPUs by triton, which is not"
            " installed: install it, or use --compile off (COMPILE=off)"
        )
    return True


def compile_layers(model: GPT, **options: Any) -> None:
    """Compile, in place, both halves of every layer; `options` are torch.compile's."""
    torch._dynamo.config.recompile_limit = SHAPES
    before = torch.compile(before_attention, **options)
    after = torch.compile(after_attention, **options)
    for layer in model.layers:
        layer.before, layer.after = before, after
