"""`longseq convert`: a checkpoint of Megatron-DeepSpeed → one of ours, to go on from.

    longseq convert outputs/RUN --output FOLDER

How it is read and written, converting/ says. No torch here: a shell completes the arguments too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from longseq.config.flags import Parser
from longseq.upstream.converting.orders import ORDERS


def add_arguments(parser: Parser) -> None:
    """The checkpoint, where it goes, and what it does not say of itself."""
    parser.add_argument(
        "source",
        type=Path,
        metavar="RUN",
        help="a run of Megatron-DeepSpeed, its folder of checkpoints, or one of them",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="a new folder: a checkpoint"
    )
    parser.add_argument(
        "--data-path",
        default="",
        metavar="PREFIX",
        help="the data it was trained on, where its run does not say them",
    )
    parser.add_argument(
        "--rotary-as-here",
        action="store_true",
        help="convert it although its rotary positions turned by other angles than here: training"
        " has to bring the weights to these (docs/upstream.md)",
    )
    parser.add_argument(
        "--qkv-order",
        default="",
        choices=ORDERS,
        help="how the rows of queries, keys and values lie in it, where its args do not say",
    )
    parser.set_defaults(run_verb=_convert)


def _convert(options: argparse.Namespace) -> int:
    from longseq.upstream.converting.writing import convert

    return convert(options)
