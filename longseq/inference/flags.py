"""How a trained network is computed, as flags that every verb of this room shares.

add_computing(parser)                          # RUN and the flags
layout, computing = read_computing(options)
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longseq.config.arguments import Layout
from longseq.config.flags import Parser, add_flags, flag, read_flags
from longseq.config.memory import KERNEL_FLAGS, KernelFlags, Memory


@dataclass(frozen=True)
class Computing(KernelFlags):
    """Where and how the network is computed."""

    seq_length: int = flag(
        0, "tokens the network may see at once; 0: those of a training sample", low=0
    )
    micro_batch_size: int = flag(
        0, "windows a rank works on at once; 0: as many as make about 8192 tokens", low=0
    )
    tile_size: int = flag(1024, "tokens that a layer works on at once outside attention", low=1)
    device: str = flag("auto", "where to compute", choices=("auto", "cpu", "cuda", "xpu"))
    bf16: bool = flag(False, "compute in bfloat16; else in fp32")

    @property
    def memory(self) -> Memory:
        """The kernel that is asked for, or the best."""
        names = [f"use_flash_attn_{name}" for name in KERNEL_FLAGS]
        asked: dict[str, Any] = {name: True for name in names if getattr(self, name)}
        return Memory(**asked or {"use_flash_attn_best": True})


def add_computing(parser: Parser) -> None:
    """The argument RUN, and the flags."""
    parser.usage = "%(prog)s RUN [FILE ...] [--flag ...]"
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run's folder, its checkpoints, or one of them"
    )
    add_flags(parser, (Layout, Computing))


def read_computing(options: argparse.Namespace) -> tuple[Layout, Computing]:
    """What was asked for; raises UserError for a value that cannot be."""
    layout, computing = read_flags((Layout, Computing), options)
    return layout, computing
