"""The rows of a rank's queries, keys and values: how they lie in its file, and from there to ours.

    order = order_of(file, args, path, given="")    # raises UserError where nothing says it
    ours = as_here(piece, order, network, ranks)

Until 4 December 2024 (its commit 676a482, which brought FPDT) they lay head by head: the queries of
a group, its key, its value, then the next group. Since then all queries lie before all keys, and
these before all values, as here. Of equal heads both have the same shape.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longseq.config.arguments import Network
from longseq.errors import UserError
from longseq.upstream.converting.orders import BY_HEAD, BY_KIND

FPDT = "ds_sequence_parallel_fpdt"  # among the arguments since that commit
KNOWN_VERSIONS = (2.0, 3.0)  # of a checkpoint: by head; that commit left the number at 3.0


def since_fpdt(args: Namespace) -> bool:
    """Did a version that has FPDT write it?"""
    return FPDT in args


def order_of(file: Mapping[str, Any], args: Namespace, path: Path, given: str) -> str:
    """BY_HEAD or BY_KIND; given: what the user says, which counts before what its args tell."""
    if given:
        return given
    if since_fpdt(args):
        return BY_KIND
    version = file.get("checkpoint_version")
    if version in KNOWN_VERSIONS:
        return BY_HEAD
    raise UserError(
        f"{path}: checkpoint_version {version!r}, and no {FPDT} among its args: nothing says in"
        f" which order its queries, keys and values lie; give --qkv-order {BY_HEAD}, as they did"
        f" in Megatron-DeepSpeed before December 2024, or {BY_KIND}"
    )


def as_here(piece: Tensor, order: str, net: Network, ranks: int) -> Tensor:
    """A rank's piece of such a matrix or bias with its rows in our order, which is BY_KIND."""
    if order == BY_KIND:
        return piece
    groups, rest = net.key_value_heads // ranks, piece.shape[1:]
    queries = net.num_attention_heads // net.key_value_heads
    heads = piece.reshape(groups, queries + 2, net.head_size, *rest)
    parts = heads.split((queries, 1, 1), 1)
    return torch.cat([part.reshape(-1, *rest) for part in parts])
