"""This rank's micro batches: which samples, which part of each, and how much each token counts.

Sample numbers are a function of the samples consumed so far, so that a resumed run reads on at the
same token whatever its number of data-parallel ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from longseq.attention.kernel import Documents
from longseq.attention.zigzag import held_spans
from longseq.config.arguments import Config
from longseq.data.samples.samples import Samples
from longseq.parallel.collectives import all_reduce
from longseq.parallel.mesh import Mesh


@dataclass(frozen=True)
class MicroBatch:
    """The arguments of GPT.forward; `weights` make the loss of this rank a mean over its sample.

    Averaged over all replicas (data-parallel ranks and those that share a sample), the losses are
    the mean loss of a token: a rank that holds a part of a sample weighs its tokens by the number
    of ranks that share it.
    """

    tokens: Tensor
    labels: Tensor
    weights: Tensor
    positions: Tensor
    documents: Documents


class Feed:
    """Micro batches of one split for this rank, on its device."""

    def __init__(self, samples: Samples, config: Config, mesh: Mesh, device: torch.device) -> None:
        self.samples, self.config, self.mesh, self.device = samples, config, mesh, device
        self.equal = samples.all_labels_count
        self.same_positions = not config.data.reset_position_ids

    def step(self, consumed: int, length: int = 0) -> Iterator[MicroBatch]:
        """The micro batches of the step that follows `consumed` samples; 0: whole samples."""
        micro, dp = self.config.training.micro_batch_size, self.mesh.dp
        length = length or self.config.network.seq_length
        for number in range(self.config.accumulation):
            first = consumed + (number * dp.size + dp.rank) * micro
            yield self._micro_batch(list(range(first, first + micro)), length)

    def _micro_batch(self, indices: list[int], length: int) -> MicroBatch:
        ulysses, ring = self.mesh.ulysses, self.mesh.ring
        spans = held_spans(
            length,
            (ulysses.rank, ulysses.size),
            (ring.rank, ring.size),
            self.config.data.reset_attention_mask,
        )
        batch = self.samples.batch(indices, spans, length)
        positions = batch.positions[:1] if self.same_positions else batch.positions
        mask = batch.loss_mask.to(self.device)
        return MicroBatch(
            batch.tokens.to(self.device),
            batch.labels.to(self.device),
            mask * (self.mesh.sequence.size / self._counted(mask)),
            positions.to(self.device),
            batch.documents,
        )

    def _counted(self, mask: Tensor) -> float | Tensor:
        """Tokens that count of mask [b, s], over all ranks that share its samples; a scalar."""
        if self.equal:
            return mask.numel() * self.mesh.sequence.size
        return all_reduce(mask.sum(), self.mesh.sequence).clamp(min=1)
