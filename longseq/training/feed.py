"""This rank's micro batches: which samples, which part of each, and how much each token counts.

    batches = feed.step(consumed, length)
    feed.ahead(next_consumed, next_length)      # while a GPU is at work on these

Sample numbers are a function of the samples consumed so far, so that a resumed run reads on at the
same token whatever its number of data-parallel ranks. Batches go to a GPU through pinned memory,
where their copies wait for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from longseq.attention.kernel import Documents
from longseq.attention.zigzag import Spans, held_spans
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
        self._ahead: tuple[tuple[int, int], list[MicroBatch]] | None = None

    @property
    def pinned(self) -> bool:
        """Whether batches go through pinned memory, a step ahead: where a GPU is kept at work."""
        return self.device.type in ("cuda", "xpu")

    def step(self, consumed: int, length: int = 0) -> Iterator[MicroBatch]:
        """The micro batches of the step that follows `consumed` samples; 0: whole samples."""
        length = length or self.config.network.seq_length
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == (consumed, length):
            return iter(ahead[1])
        return self._micro_batches(consumed, length)

    def ahead(self, consumed: int, length: int = 0) -> None:
        """Make the batches of that step for a GPU, which is busy meanwhile. The next `step` gives
        them if it is asked for just these, else they are dropped. On a CPU nothing is won.
        """
        if self.pinned:
            length = length or self.config.network.seq_length
            self._ahead = (consumed, length), list(self._micro_batches(consumed, length))

    def _micro_batches(self, consumed: int, length: int) -> Iterator[MicroBatch]:
        micro, dp = self.config.training.micro_batch_size, self.mesh.dp
        for number in range(self.config.accumulation):
            first = consumed + (number * dp.size + dp.rank) * micro
            yield self._micro_batch(list(range(first, first + micro)), length)

    def _micro_batch(self, indices: list[int], length: int) -> MicroBatch:
        batch = self.samples.batch(indices, self.spans(length), length)
        positions = batch.positions[:1] if self.same_positions else batch.positions
        mask = self._sent(batch.loss_mask)
        return MicroBatch(
            self._sent(batch.tokens),
            self._sent(batch.labels),
            mask * (self.mesh.sequence.size / self._counted(mask)),
            self._sent(positions),
            batch.documents,
        )

    def spans(self, length: int) -> Spans:
        """The places in a sample of `length` tokens of those that this rank holds, in order."""
        ulysses, ring = self.mesh.ulysses, self.mesh.ring
        return held_spans(
            length,
            (ulysses.rank, ulysses.size),
            (ring.rank, ring.size),
            self.config.data.reset_attention_mask,
        )

    def _sent(self, x: Tensor) -> Tensor:
        """x, of any shape, on its way to the device."""
        return (x.pin_memory() if self.pinned else x).to(self.device, non_blocking=self.pinned)

    def _counted(self, mask: Tensor) -> float | Tensor:
        """Tokens that count of mask [b, s], over all ranks that share its samples; a scalar."""
        if self.equal:
            return mask.numel() * self.mesh.sequence.size
        return all_reduce(mask.sum(), self.mesh.sequence).clamp(min=1)
