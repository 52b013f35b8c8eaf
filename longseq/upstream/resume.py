"""A checkpoint of ours → its training: weights, position in the data, schedule, Adam's moments.

    ours = our_checkpoint(config, warn)          # None where --load names none of ours
    held.fill(ours.values("weight"))             # when its model is built
    ours.go_on(training, held, made)             # when DeepSpeed has made its engine

Whole tensors are cut for this rank, so that any layout goes on from any. Moments go over in fp32
at ZeRO stage 0, where its optimizer holds them by parameter; elsewhere they begin anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longseq.checkpoint.format.manifest import Manifest
from longseq.checkpoint.format.tensors import open_checkpoint
from longseq.config.arguments import Config
from longseq.parallel.agreement import Ranks
from longseq.upstream.names import HEAD, TOKENS, Held, one_table
from longseq.upstream.request import find_ours

MOMENTS = ("exp_avg", "exp_avg_sq")


def our_checkpoint(
    config: Config, warn: Callable[[str], None], ranks: Ranks
) -> OurCheckpoint | None:
    """What --load names, if it is a checkpoint of ours; its hashes are looked at by all ranks."""
    found = find_ours(config, warn, ranks)
    return OurCheckpoint(*found, config) if found else None


class OurCheckpoint:
    """A whole checkpoint of ours, to go on from."""

    def __init__(self, path: Path, manifest: Manifest, config: Config) -> None:
        self.path, self.manifest, self.config = path, manifest, config

    def values(self, kind: str) -> Iterator[tuple[str, Tensor]]:
        """Name and whole tensor [fp32] of each of a kind: weight, exp_avg or exp_avg_sq."""
        with open_checkpoint(self.path) as tensors:
            yield from one_table(
                (name, self._rows(name, tensors.tensor(f"{kind}/{name}")))
                for of_kind, _, name in (key.partition("/") for key in self.manifest.tensors)
                if of_kind == kind
            )

    def _rows(self, name: str, whole: Tensor) -> Tensor:
        """A table with as many rows as this run pads it to; those that are no tokens are zero."""
        if name not in (TOKENS, HEAD):
            return whole
        table = whole.new_zeros(
            self.config.network.padded_vocabulary(self.manifest.vocabulary), whole.shape[1]
        )
        table[: self.manifest.vocabulary] = whole[: self.manifest.vocabulary]
        return table

    def has_moments(self) -> bool:
        """Can they go over into this run's optimizer?"""
        train = self.config.training
        return bool(self.manifest.optimizer) and train.dtype == "fp32" and train.zero_stage == 0

    def go_on(self, args: Any, held: Held, made: tuple[Any, Any, Any]) -> None:
        """Set its arguments, optimizer and schedule to where the checkpoint is."""
        (engine, *_), optimizer, schedule = made
        progress = self.manifest.progress
        args.iteration = engine.global_steps = progress["iteration"]
        args.consumed_train_samples = progress["consumed_samples"]
        args.consumed_train_tokens = progress["consumed_tokens"]
        schedule.step(increment=progress["consumed_samples"])
        if self.has_moments():
            self._moments(optimizer, held)

    def _moments(self, optimizer: Any, held: Held) -> None:
        for kind in MOMENTS:
            for parameter, piece in held.mine(self.values(kind)):
                state = optimizer.state[parameter]
                state[kind] = piece.clone()
                state["step"] = torch.tensor(float(self.manifest.numbers["step"]))
