"""One training step and one validation, without reading a value back in their middle."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from longseq.parallel.collectives import all_reduce
from longseq.parallel.mesh import Mesh
from longseq.training.feed import Feed, MicroBatch


def _forward(model: Any, batch: MicroBatch, forward_pass: int) -> Tensor:
    loss: Tensor = model(
        batch.tokens, batch.labels, batch.weights, batch.positions, batch.documents, forward_pass
    )
    return loss


def forward_backward_step(engine: Any, batches: Iterable[MicroBatch], forward_pass: int) -> Tensor:
    """Accumulate the gradients of all micro batches; returns the sum of their losses, a scalar.

    `forward_pass` is the number of the first forward pass; no two passes of a training share one.
    """
    total: Tensor | None = None
    for number, batch in enumerate(batches):
        loss = _forward(engine, batch, forward_pass + number)
        engine.backward(loss)
        engine.step()  # DeepSpeed acts on the last micro batch of the accumulation only
        total = loss.detach() if total is None else total + loss.detach()
    assert total is not None
    return total


def mean_over_replicas(loss: Tensor, passes: int, mesh: Mesh) -> Tensor:
    """The mean loss of a token, from each rank's sum over `passes` micro batches."""
    return all_reduce(loss / (passes * mesh.replicas.size), mesh.replicas)


def validate(engine: Any, feed: Feed, batches: int, mesh: Mesh) -> float:
    """Mean loss over the first `batches` global batches of the split, without dropout."""
    engine.eval()
    total = torch.zeros((), dtype=torch.float32, device=feed.device)
    with torch.no_grad():
        for number in range(batches):
            for batch in feed.step(number * feed.config.global_batch_size):
                total += _forward(engine.module, batch, 0)
    engine.train()
    return float(mean_over_replicas(total, batches * feed.config.accumulation, mesh))
