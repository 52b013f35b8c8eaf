"""Kernels that draw dropout from the device's generator, made to draw from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from longseq.attention.kernel import AttentionDropout


@contextmanager
def seeded(dropout: AttentionDropout | None, device: torch.device) -> Iterator[float]:
    """Within, the generators start at the seed; afterwards they are where they were.

    Yields the probability, 0 without dropout.
    """
    if dropout is None:
        yield 0.0
        return
    kind = "cuda" if device.type == "cpu" else device.type
    with torch.random.fork_rng([device] if device.type == kind else [], device_type=kind):
        torch.manual_seed(dropout.seed)
        yield dropout.probability
