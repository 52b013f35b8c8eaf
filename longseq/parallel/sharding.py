"""How a whole parameter is sharded over a group, kept on the parameter itself.

A fused matrix (queries, keys and values; gate and up) is made of `parts` along the sharded
dimension, and each part is sharded by itself, so that every rank holds its share of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Sharding:
    """Rank `rank` of `size` holds its share of each of `parts` along `dim`."""

    dim: int
    parts: tuple[int, ...]
    rank: int
    size: int

    def whole_shape(self, shape: torch.Size) -> torch.Size:
        """The shape of the whole parameter, from that of this rank's piece."""
        sizes = list(shape)
        sizes[self.dim] = sum(self.parts)
        return torch.Size(sizes)

    def take(self, whole: Tensor) -> Tensor:
        """This rank's piece of `whole`, of any shape whose `dim` is the sum of `parts`."""
        pieces = [
            p.chunk(self.size, self.dim)[self.rank] for p in whole.split(self.parts, self.dim)
        ]
        if whole.is_meta:  # which has no values; to join some, torch would import its compiler
            size = list(whole.shape)
            size[self.dim] = sum(piece.shape[self.dim] for piece in pieces)
            return whole.new_empty(size)
        return torch.cat(pieces, self.dim)


def shard_parameter(plain: Tensor, sharding: Sharding) -> nn.Parameter:
    """This rank's piece of a whole parameter, in the shape that `sharding.take` gives it.

    It is marked for initialisation and for DeepSpeed's norm.
    """
    piece = nn.Parameter(sharding.take(plain.detach()))
    piece.longseq_sharding = sharding  # type: ignore[attr-defined]
    # DeepSpeed adds the squares of parameters so marked over the model-parallel group, and counts
    # the others once.
    piece.tensor_model_parallel = True  # type: ignore[attr-defined]
    return piece


def sharding_of(parameter: Tensor) -> Sharding | None:
    """The sharding of a parameter made by shard_parameter, None for a whole one."""
    return getattr(parameter, "longseq_sharding", None)
