"""What is recomputed where the flags leave it open: as little as the estimate lets fit.

    policy = choose(config, vocabulary, available)      # available: bytes that this rank may use

The first of these is taken whose estimated memory fits: keep everything; recompute norms and
activation functions; recompute everything but attention, in as few layers as will do, and of the
others that; recompute everything. Each needs less memory than the one before and more time.
"""

from __future__ import annotations

from dataclasses import replace

from longseq.config.arguments import Config
from longseq.memory.need import needed
from longseq.memory.recompute_policy import RecomputePolicy, asked

USABLE = 0.9  # of what is available: fragments, and what libraries take of it later
WAYS = ("none", "pointwise", "outside-attention", "full")


def choose(
    config: Config, vocabulary: int, available: float, device: str = "cpu"
) -> RecomputePolicy:
    """The flags' choice, or the cheapest one whose estimate fits `available` bytes a rank."""
    if config.memory.recompute_granularity != "auto" or config.memory.checkpoint_activations:
        return asked(config, device=device)
    policy, size = asked(config, device=device), 0.0
    for way in WAYS:
        policy = asked(config, way, device)
        size = needed(config, vocabulary, policy, device).tensors
        if size <= USABLE * available:
            if way == "outside-attention":
                policy = _fewest_layers(config, vocabulary, policy, USABLE * available, device)
                size = needed(config, vocabulary, policy, device).tensors
            break
    gib = 2**30
    fits = "of" if size <= USABLE * available else "may be too much for"
    why = f"chosen: about {size / gib:.1f} GiB {fits} {available / gib:.1f} GiB a rank"
    return replace(policy, why=why)


def _fewest_layers(
    config: Config, vocabulary: int, policy: RecomputePolicy, room: float, device: str
) -> RecomputePolicy:
    """`policy`, which fits `room` bytes with all layers, for as few of them as fit."""
    too_few, enough = 0, config.network.num_layers
    found = policy
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        block = replace(policy, method="block", layers=middle, rest="pointwise")
        if needed(config, vocabulary, block, device).tensors <= room:
            enough, found = middle, block
        else:
            too_few = middle
    return found
