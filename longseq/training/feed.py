"""This rank's micro batches: which samples, which part of each, and how much each token counts.

    batches = feed.step(consumed, length)
    feed.ahead(next_consumed, next_length)      # while a GPU is at work on these

Sample numbers are a function of the samples consumed so far, so that a resumed run reads on at the
same token whatever its number of data-parallel ranks. Batches go to a GPU through pinned memory,
where their copies wait for nothing, one by one as they are asked for: while the GPU is at work on
one the next is read, and no more than these two are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import torch
from torch import Tensor

from longseq.attention.kernel import Documents
from longseq.attention.zigzag import Spans, held_spans
from longseq.config.arguments import Config
from longseq.data.samples.batch import Batch
from longseq.data.samples.samples import Samples
from longseq.parallel.collectives import all_reduce
from longseq.parallel.mesh import Mesh


@dataclass(frozen=True)
class MicroBatch:
    """The arguments of GPT.forward. mask [b, s]: how much each label counts.

    Averaged over all replicas (data-parallel ranks and those that share a sample) and over the
    micro batches of a step, the losses by `weights` are the mean loss of a token of the step, by
    how much each counts: however a global batch is cut into micro batches and dealt out to ranks.
    """

    tokens: Tensor
    labels: Tensor
    mask: Tensor
    positions: Tensor
    documents: Documents
    share: float | Tensor = 1.0  # of one counted label in this rank's loss of one micro batch

    @property
    def weights(self) -> Tensor:
        """[b, s]; made anew at each call."""
        return self.mask * self.share


def noted(batches: Iterable[MicroBatch], documents: list[Documents]) -> Iterator[MicroBatch]:
    """`batches`, and as they go by where the documents of each end, in `documents`."""
    for batch in batches:
        documents.append(batch.documents)
        yield batch


class Feed:
    """Micro batches of one split for this rank, on its device."""

    def __init__(self, samples: Samples, config: Config, mesh: Mesh, device: torch.device) -> None:
        self.samples, self.config, self.mesh, self.device = samples, config, mesh, device
        self.equal = samples.all_labels_count
        self.same_positions = not config.data.reset_position_ids
        self._ahead: tuple[tuple[int, int], Iterator[MicroBatch]] | None = None

    @property
    def pinned(self) -> bool:
        """Whether batches go through pinned memory, a step ahead: where a GPU is kept at work."""
        return self.device.type in ("cuda", "xpu")

    def step(self, consumed: int, length: int = 0) -> Iterator[MicroBatch]:
        """The micro batches of the step that follows `consumed` samples; 0: whole samples."""
        length = length or self.config.network.seq_length
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == (consumed, length):
            return ahead[1]
        return self._micro_batches(consumed, length, not self.equal)

    def judged(self, consumed: int) -> Iterator[MicroBatch]:
        """The same of whole samples, for a loss that is summed by masks: their shares are not what
        counts.
        """
        return self._micro_batches(consumed, self.config.network.seq_length, uneven=False)

    def ahead(self, consumed: int, length: int = 0) -> None:
        """Make the first batch of that step for a GPU, which is busy meanwhile. The next `step`
        gives it if it is asked for just this, else it is dropped. On a CPU nothing is won.
        """
        if self.pinned:
            length = length or self.config.network.seq_length
            batches = self._micro_batches(consumed, length, not self.equal)
            first = iter(list(islice(batches, 1)))  # which holds nothing when it is done
            self._ahead = (consumed, length), chain(first, batches)

    def _micro_batches(self, consumed: int, length: int, uneven: bool) -> Iterator[MicroBatch]:
        """uneven: the first one's share depends on what counts in the last. Unless there is only
        one, all are then read twice.
        """
        micro, dp = self.config.training.micro_batch_size, self.mesh.dp
        firsts = [
            consumed + (number * dp.size + dp.rank) * micro
            for number in range(self.config.accumulation)
        ]
        spans = self.spans(length)

        def read() -> Iterator[Batch]:
            for at in firsts:
                yield self.samples.batch(list(range(at, at + micro)), spans, length)

        only = list(read()) if len(firsts) == 1 else None
        share: Tensor | None = None
        if uneven:
            masks = (batch.loss_mask for batch in only or read())
            counted = self._counted([mask.sum(dtype=torch.float64) for mask in masks])
            share = len(firsts) * self.mesh.replicas.size / counted
        for batch in only or read():
            yield self._on_device(batch, share)

    def _on_device(self, batch: Batch, share: Tensor | None) -> MicroBatch:
        positions = batch.positions[:1] if self.same_positions else batch.positions
        return MicroBatch(
            self._sent(batch.tokens),
            self._sent(batch.labels),
            self._sent(batch.loss_mask),
            self._sent(positions),
            batch.documents,
            1 / batch.loss_mask.numel() if share is None else share,
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

    def _counted(self, micro_batches: list[Tensor]) -> Tensor:
        """How many labels of a step count, a scalar, over all ranks from each of its micro batches.

        Where none does, infinitely many: their loss and its gradient are 0.
        """
        total = all_reduce(self._sent(torch.stack(micro_batches).sum()), self.mesh.replicas)
        return torch.where(total > 0, total, torch.inf).float()
