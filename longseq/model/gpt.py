"""GPT: embeddings, layers, norm, head; returns the loss, never the logits of the whole sequence.

model = GPT(network, vocabulary=8, kernel=kernel("sdpa"), seed=1234)
loss = model(tokens, labels, weights, positions)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from longseq.attention import Documents, Kernel
from longseq.config.arguments import Network
from longseq.model.context import Context
from longseq.model.dropout import Dropout
from longseq.model.layers import Layer
from longseq.model.norm import Norm
from longseq.model.positions import Positions
from longseq.model.rotary import rotary_table
from longseq.parallel.mesh import Group
from longseq.parallel.vocabulary import tiled_cross_entropy


class Head(nn.Module):
    """Hidden states to the weighted sum of cross entropies; the table may be the embedding's."""

    def __init__(self, table: nn.Parameter, vocabulary: int) -> None:
        super().__init__()
        self.weight, self.vocabulary = table, vocabulary
        self.group, self.split = Group("tp"), False

    def forward(self, hidden: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        return tiled_cross_entropy(
            hidden, self.weight, labels, weights, self.vocabulary, self.group, self.split
        )


def one_by_one(layers: Iterable[Any], x: Tensor, context: Context) -> Tensor:
    """The layers in their order, [s, b, h] → [s, b, h]."""
    for layer in layers:
        x = layer(x, context)
    return x


class GPT(nn.Module):
    """The decoder of arXiv 2005.14165, with the variants that `Network` names."""

    def __init__(
        self,
        net: Network,
        vocabulary: int,
        kernel: Kernel,
        seed: int,
    ) -> None:
        super().__init__()
        self.net = net
        self.stack: Callable[..., Tensor] = one_by_one
        rows = net.padded_vocabulary(vocabulary)
        self.tokens = nn.Embedding(rows, net.hidden_size)
        self.positions: Positions | None = None
        if not net.use_rotary_position_embeddings:
            self.positions = Positions(net.positions, net.hidden_size)
        self.dropout = Dropout(net.hidden_dropout, seed, 0)
        self.layers = nn.ModuleList(Layer(net, kernel, seed, i) for i in range(net.num_layers))
        self.norm = Norm(net.hidden_size, net.normalization, net.layernorm_epsilon)
        table = nn.Parameter(torch.empty(rows, net.hidden_size))
        if not net.untie_embeddings_and_output_weights:
            table = self.tokens.weight  # type: ignore[assignment]  # torch types it as a Tensor
        self.head = Head(table, vocabulary)

    def forward(
        self,
        tokens: Tensor,
        labels: Tensor,
        weights: Tensor,
        positions: Tensor,
        documents: Documents = None,
        forward_pass: int = 0,
    ) -> Tensor:
        """Σ weights · cross entropy, a scalar fp32.

        tokens, labels [b, s] and positions [b or 1, s] int64, weights [b, s] fp32 of the sample,
        or of this rank's part of it where ranks share a sample outside tensor parallelism.
        """
        x = self.tokens(tokens.t())
        if self.positions is not None:
            x = x + self.positions(positions.t())
        x = self.dropout(x, forward_pass)
        context = Context(self._rotary(positions), documents, forward_pass)
        x = self.stack(self.layers, x, context)
        return self.head(self.norm(x), labels.t(), weights.t())

    def _rotary(self, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        net = self.net
        if not net.use_rotary_position_embeddings:
            return None
        return rotary_table(positions, net.rotary_size, net.rope_theta)
