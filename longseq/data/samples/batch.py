"""What a rank gets for one micro-batch."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Batch:
    """b = micro batch, s = this rank's tokens of the sequence.

    tokens     [b, s] int64
    labels     [b, s] int64: the next token; at the end of a document its end token
    loss_mask  [b, s] float32: what the label counts for; 0 where it does not
    positions  [b, s] int64: within the sample, or within the document with --reset-position-ids
    documents  per row of the WHOLE sample, the ends of its documents, the last of them seq_length;
               None without --reset-attention-mask
    """

    tokens: torch.Tensor
    labels: torch.Tensor
    loss_mask: torch.Tensor
    positions: torch.Tensor
    documents: tuple[tuple[int, ...], ...] | None
