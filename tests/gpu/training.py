"""A few steps of the trainer in this process, on tokens that are the same on every device.

    found = train(["--num-layers", "2"], "cuda", steps=5, vocabulary=1000)
    found.losses, found.norms, found.peak_gib

One rank. What differs between two calls is what their flags say, and the device.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from longseq.config.arguments import Config
from longseq.config.checks import parse_config
from longseq.engine.distributed import pick_device
from longseq.memory.recompute_policy import asked
from longseq.training.feed import MicroBatch
from longseq.training.trainer import Trainer

MOST_SKIPS = 30  # updates that loss scaling may leave out before it has found its scale


@dataclass(frozen=True)
class Found:
    """Of each update: loss and norm of the gradient. skipped: updates that were left out."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    skipped: int = 0
    peak_gib: float = 0.0  # of tensors on the GPU in steps; 0 on a CPU


def train(
    words: Sequence[str], device: str, steps: int, vocabulary: int, documents: bool = False
) -> Found:
    """`steps` updates of one rank with the flags `words`, the n-th always on the same batch.

    Nothing is recomputed but what the flags name.
    """
    free_memory()
    config = parse_config([*words, "--device", device], 1)
    losses: list[float] = []
    norms: list[float] = []
    skipped = 0
    with Trainer(config, vocabulary, pick_device(config), asked(config, device=device)) as trainer:
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        while len(losses) < steps and skipped < MOST_SKIPS:
            batches = random_batches(config, vocabulary, device, documents, len(losses))
            result = trainer.step(batches)
            if result.updated:
                losses.append(result.loss)
                norms.append(result.grad_norm)
            else:
                skipped += 1
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
    return Found(losses, norms, skipped, peak)


def free_memory() -> None:
    """Give back what the training before this one held."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def random_batches(
    config: Config, vocabulary: int, device: str, documents: bool, number: int
) -> list[MicroBatch]:
    """The micro batches of step `number`: small ids are frequent, so that there is what to learn.

    With documents they end where no tile does, elsewhere in each row, and positions start again.
    """
    b, s = config.training.micro_batch_size, config.network.seq_length
    batches = []
    for micro in range(config.accumulation):
        generator = torch.Generator().manual_seed(1 + number * config.accumulation + micro)
        uniform = torch.rand(b, s + 1, generator=generator)
        tokens = (uniform**3 * vocabulary).long().to(device)
        positions, ends = torch.arange(s)[None], None
        if documents:
            ends = tuple((s // 5 + 1 + row, s // 2 + 3, s) for row in range(b))
            positions = torch.stack([_positions(row) for row in ends])
        weights = torch.full((b, s), 1 / (s * b), device=device)
        batches.append(
            MicroBatch(tokens[:, :-1], tokens[:, 1:], weights, positions.to(device), ends)
        )
    return batches


def _positions(ends: tuple[int, ...]) -> torch.Tensor:
    """[s], from 0 in each document."""
    starts = (0, *ends[:-1])
    return torch.cat([torch.arange(stop - start) for start, stop in zip(starts, ends, strict=True)])


def largest_difference(these: Sequence[float], those: Sequence[float]) -> float:
    """The largest relative difference of two equally long lists, of `those`; not finite: inf."""
    if len(these) != len(those):
        return float("inf")
    found = [abs(a - b) / abs(b) for a, b in zip(these, those, strict=True)]
    return max((x if x == x else float("inf") for x in found), default=float("inf"))
