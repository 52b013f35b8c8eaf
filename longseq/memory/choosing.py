"""What is recomputed where the flags leave it open: as little as the estimate lets fit.

    policy = choose(config, vocabulary, available)      # available: bytes that this rank may use

The first of these is taken whose estimated memory fits: keep everything; recompute norms and
activation functions; recompute everything but attention, in as few layers as will do, and of the
others that; recompute everything. Each needs less memory than the one before and more time. On a
CPU a checkpoint's copy is counted, but where nothing fits with it: then none will be made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from longseq.config.arguments import Config
from longseq.memory.need import Need, needed
from longseq.memory.recompute_policy import RecomputePolicy, asked

USABLE = 0.9  # of what is available: fragments, and what libraries take of it later
WAYS = ("none", "pointwise", "outside-attention", "full")


def choose(
    config: Config, vocabulary: int, available: float, device: str = "cpu"
) -> RecomputePolicy:
    """The flags' choice, or the cheapest one whose estimate fits `available` bytes a rank."""
    if config.memory.recompute_granularity != "auto" or config.memory.checkpoint_activations:
        return asked(config, device=device)
    room = USABLE * available
    for copied in (True, False) if config.copies else (True,):
        need_of = partial(needed, config, vocabulary, device=device, copied=copied)
        policy = _least(config, need_of, room, device)
        size = need_of(policy).tensors
        if size <= room:
            break
    gib = 2**30
    fits = "of" if size <= room else "may be too much for"
    why = f"chosen: about {size / gib:.1f} GiB {fits} {available / gib:.1f} GiB a rank"
    return replace(policy, why=why)


def _least(
    config: Config, need_of: Callable[[RecomputePolicy], Need], room: float, device: str
) -> RecomputePolicy:
    """The first way that fits `room` bytes, or the last."""
    for way in WAYS:
        policy = asked(config, way, device)
        if need_of(policy).tensors <= room:
            if way == "outside-attention":
                return _fewest_layers(config.network.num_layers, policy, need_of, room)
            break
    return policy


def _fewest_layers(
    layers: int, policy: RecomputePolicy, need_of: Callable[[RecomputePolicy], Need], room: float
) -> RecomputePolicy:
    """`policy`, which fits `room` bytes with all layers, for as few of them as fit."""
    too_few, enough = 0, layers
    found = policy
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        block = replace(policy, method="block", layers=middle, rest="pointwise")
        if need_of(block).tensors <= room:
            enough, found = middle, block
        else:
            too_few = middle
    return found
