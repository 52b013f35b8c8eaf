"""What a layer does token by token, compiled by torch: put into the network from outside.

    parallelize(model, mesh)
    apply_recompute_policy(model, policy)
    if wants_compiling(config, device):
        compile_layers(model, policy, in_one_piece(config), layers_together(config))

A layer is compiled once for all layers, whole or as its two halves around attention; of short
layers, which a GPU has done before the CPU has launched them, some are one piece: what stands
between two matrix products (norm, rotary positions, GELU or SwiGLU, residual) becomes one kernel,
forward and backward, in which numbers are not rounded between one operation and the next. Messages
between ranks and dropout, whose mask a seed repeats, stay as they are written: compiled code ends
there and begins again. Without, the same functions run as they are written: the reference that
tests hold the compiled ones to.

What a compiled layer keeps for backward is the compiler's choice: it is told whether it may make
again what a matrix product wants for its weight's gradient (the policy "pointwise"). Where messages
stand in the products (tensor parallelism) these are no part of compiled code, and keep what they
are given: layers of that policy then run as they are written.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from longseq.config.arguments import Config
from longseq.config.kernels import waits_for_host
from longseq.errors import UserError
from longseq.host.uncompiled import keep_uncompiled
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.model.context import Context
from longseq.model.gpt import GPT, one_by_one
from longseq.model.layers import (
    After,
    Before,
    Layer,
    RunLayer,
    after_attention,
    as_written,
    before_attention,
)

IN_GRAPH = ("sdpa", "cudnn")  # kernels that are torch's own operators
MOST_TOGETHER = 4  # layers of a piece
# Operations that one kernel may have: with torch's 30 a rotation's gradient is written twice
FUSED = {"realize_opcount_threshold": 100}
SHAPES = 64  # that a function may be compiled for: training and not, tiles, lengths of a curriculum


def wants_compiling(config: Config, device: torch.device) -> bool:
    """Whether --compile means it on this device; raises UserError where it cannot be.

    ZeRO stage 3 takes weights away between their uses, and compiled code would keep views of them.
    """
    asked, on_cpu = config.training.compile, device.type == "cpu"
    untold = device.type != "cuda" or config.training.zero_stage == 3  # on xpu it is untried
    if asked == "off" or (asked == "auto" and untold):
        return False
    if not on_cpu and importlib.util.find_spec("triton") is None:
        raise UserError(
            f"--compile {asked} (COMPILE={asked}): torch compiles for GPUs by triton, which is not"
            " installed: install it, or use --compile off (COMPILE=off)"
        )
    return True


def what_compiles(config: Config, policy: RecomputePolicy, device: torch.device) -> str:
    """What is compiled, for the screen; empty where nothing is."""
    if not wants_compiling(config, device):
        return ""
    layers = config.network.num_layers
    written = policy.pointwise_layers(layers) if config.layout.tp > 1 else 0
    if written == layers:
        return ""
    which = f"the first {layers - written} layers" if written else "layers"
    if not in_one_piece(config):
        return f"{which} compiled but for attention"
    several = layers_together(config) if policy.recompute in ("none", "pointwise") else 1
    return f"{which} compiled" + (f", {several} in one piece" if several > 1 else "")


def compile_layers(
    model: GPT, policy: RecomputePolicy, whole: bool = False, together: int = 1, **options: Any
) -> None:
    """Compile, in place: layers that run as they are written in one piece if `whole`, `together` of
    them in one where all do, else both halves of each; `options` are torch.compile's.
    """
    keep_uncompiled()
    options = options or {"options": FUSED}
    torch._dynamo.config.recompile_limit = SHAPES
    others = len(model.layers) - policy.pointwise_layers(len(model.layers))
    kept, settings = others == len(model.layers), torch._functorch.config
    if settings.ban_recompute_materialized_backward != kept:
        settings.ban_recompute_materialized_backward = kept
        torch._dynamo.reset()  # what was compiled in this process for the other
    run: RunLayer = torch.compile(as_written, **options)
    before: Before = torch.compile(before_attention, **options)
    after: After = torch.compile(after_attention, **options)
    for number, layer in enumerate(model.layers):
        if number >= others and type(layer.mlp.down) is not nn.Linear:
            continue
        if whole and layer.run is as_written:
            layer.run, layer.before, layer.after = run, before_attention, after_attention
        else:
            layer.before, layer.after = before, after
    if together > 1 and model.run_layers is one_by_one and all(x.run is run for x in model.layers):
        model.run_layers = partial(_in_pieces, torch.compile(_piece, **options), together)


def _piece(layers: tuple[Layer, ...], x: Tensor, context: Context) -> Tensor:
    """Some layers in their order, [s, b, h] → [s, b, h]."""
    for layer in layers:
        x = as_written(layer, x, context)
    return x


def _in_pieces(
    run: Callable[[tuple[Layer, ...], Tensor, Context], Tensor],
    size: int,
    layers: Sequence[Layer],
    x: Tensor,
    context: Context,
) -> Tensor:
    """All layers, [s, b, h] → [s, b, h], `size` of them at a time by `run`."""
    for some in zip(*[iter(layers)] * size, strict=True):
        x = run(some, x, context)
    return x


def layers_together(config: Config) -> int:
    """How many layers are compiled in one piece: a call of compiled code costs the CPU as much for
    one as for four, and torch as many times as long to compile.
    """
    if not waits_for_host(config):
        return 1
    return max(n for n in range(1, MOST_TOGETHER + 1) if config.network.num_layers % n == 0)


def in_one_piece(config: Config) -> bool:
    """Whether a layer can be compiled with its attention: nothing stands in it that compiled code
    ends at (messages, dropout's seeds, a recomputed kernel) or has to be made anew for
    (documents), and the kernel is one that torch has traced the making of.
    """
    alone = config.layout.model_ranks == 1
    dropout = config.network.attention_dropout or config.network.hidden_dropout
    plain = not config.data.reset_attention_mask and not config.memory.ds_sequence_parallel_fpdt
    selective = config.memory.recompute_granularity == "selective"
    known = config.memory.kernel in IN_GRAPH
    return alone and known and plain and not dropout and not selective
