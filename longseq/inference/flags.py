"""How a trained network is computed, as flags that every verb of this room shares.

add_computing(parser)                          # RUN and the flags
layout, computing = read_computing(options)
config = network_config(trained, layout, computing, ranks)    # says what cannot be

No torch in this room before a network is made: what is refused is said at once, and a login node
looks a job over in a second.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longseq.checkpoint.trained import Trained
from longseq.config.arguments import Config, Data, Layout, Run, Training
from longseq.config.checks import make_config
from longseq.config.flags import Parser, add_flags, flag, read_flags
from longseq.config.memory import KERNEL_FLAGS, KernelFlags, Memory
from longseq.errors import UserError

BATCH_TOKENS = 8192  # of a micro batch, where the user names none


@dataclass(frozen=True)
class Computing(KernelFlags):
    """Where and how the network is computed."""

    device: str = flag("auto", "where to compute", choices=("auto", "cpu", "cuda", "xpu"))
    bf16: bool = flag(False, "compute in bfloat16; else in fp32")
    dry_run: bool = flag(False, "look for what would be refused, and compute nothing")
    seq_length: int = flag(
        0, "tokens the network may see at once; 0: those of a training sample", low=0
    )
    micro_batch_size: int = flag(
        0, "windows a rank works on at once; 0: as many as make about 8192 tokens", low=0
    )
    tile_size: int = flag(1024, "tokens that a layer works on at once outside attention", low=1)

    @property
    def memory(self) -> Memory:
        """The kernel that is asked for, or the best; tiles as where layers are recomputed."""
        names = [f"use_flash_attn_{name}" for name in KERNEL_FLAGS]
        asked: dict[str, Any] = {name: True for name in names if getattr(self, name)}
        asked = asked or {"use_flash_attn_best": True}
        return Memory(**asked, recompute_granularity="full", tile_size=self.tile_size)


def add_computing(parser: Parser) -> None:
    """The argument RUN, and the flags."""
    parser.usage = "%(prog)s RUN [FILE ...] [--flag ...]"
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run's folder, its checkpoints, or one of them"
    )
    kernels = [f"use_flash_attn_{name}" for name in KERNEL_FLAGS]
    add_flags(parser, (Computing,), but=kernels)
    add_flags(parser, (Layout,), but=("pipeline_model_parallel_size",))  # there is none here
    add_flags(parser, (KernelFlags,))


def read_computing(options: argparse.Namespace) -> tuple[Layout, Computing]:
    """What was asked for; raises UserError for a value that cannot be."""
    layout, computing = read_flags((Layout, Computing), options)
    return layout, computing


def network_config(trained: Trained, layout: Layout, computing: Computing, world: int) -> Config:
    """How `world` ranks compute it; raises UserError for what they cannot."""
    net = trained.network
    length = computing.seq_length or net.seq_length
    if length > net.positions and not net.use_rotary_position_embeddings:
        raise UserError(
            f"--seq-length {length}: {trained.name} has {net.positions} learned positions: give"
            f" {net.positions} or less, or windows (--window, --stride)"
        )
    _shared(trained, layout.tp)
    net = replace(net, seq_length=length, make_vocab_size_divisible_by=layout.tp)
    micro = computing.micro_batch_size or max(1, BATCH_TOKENS // length)
    training = Training(micro_batch_size=micro, device=computing.device, bf16=computing.bf16)
    return make_config((net, layout, computing.memory, training, Data(), Run()), world)


def _shared(trained: Trained, tp: int) -> None:
    """Refuse ranks that cannot share the widths of a network that is trained."""
    net = trained.network
    if net.num_attention_heads % tp:
        return  # which make_config says, with its remedy
    learned = 0 if net.use_rotary_position_embeddings else net.positions
    for what, size in (("MLP's width", net.ffn_size), ("learned positions", learned)):
        if size % tp:
            fit = [n for n in range(1, tp) if not (size % n or net.num_attention_heads % n)]
            raise UserError(
                f"--tensor-model-parallel-size {tp}: {trained.name}'s {what}, {size}, cannot be"
                f" shared by {tp} ranks: use {' or '.join(map(str, fit))}"
            )
