"""GPT: embeddings, layers, norm, head; returns the loss, never the logits of the whole sequence.

model = GPT(network, vocabulary=8, kernel=kernel("sdpa"), seed=1234)
loss = model(tokens, labels, weights, positions)

x = model.hidden(tokens, positions)            # the same network, to look into
losses = model.head.losses(x, labels.t())      # of each token
logits = model.head.logits(x[-1:])             # of the tokens that may follow
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from longseq.attention.kernel import Documents, Kernel
from longseq.config.arguments import Network
from longseq.model.context import Context
from longseq.model.dropout import Dropout
from longseq.model.layers import Layer
from longseq.model.loss import HeadExchange, tiled_cross_entropy, token_losses
from longseq.model.norm import Norm
from longseq.model.positions import Positions
from longseq.model.rotary import rotary_table
from longseq.model.tables import Tokens


class Head(nn.Module):
    """Hidden states to losses and logits; the table [V, h] may be the embedding's own.

    `vocabulary` is how many of its rows are tokens; `exchange` is what ranks that share it do.
    """

    def __init__(self, table: Tensor, vocabulary: int) -> None:
        super().__init__()
        self.weight, self.vocabulary = table, vocabulary
        self.exchange = HeadExchange()

    def forward(self, hidden: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        """Σ weights · cross entropy, a scalar; hidden [s, b, h], labels and weights [s, b].

        Without weights `losses`, by a call as ZeRO stage 3 needs it to gather the table.
        """
        if weights is None:
            return self.losses(hidden, labels)
        return tiled_cross_entropy(
            hidden, self.weight, labels, weights, self.vocabulary, self.exchange
        )

    def losses(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """The cross entropy of each token, [s, b] fp32, without gradients."""
        return token_losses(hidden, self.weight, labels, self.vocabulary, self.exchange)

    def logits(self, hidden: Tensor) -> Tensor:
        """[s, b, h] → [s, b, vocabulary]: for a few tokens, as it keeps them all."""
        mine = self.exchange.gather_tokens(hidden) @ self.weight.t()
        return self.exchange.gather_vocabulary(mine)[..., : self.vocabulary]


RunLayers = Callable[[Sequence[Layer], Tensor, Context], Tensor]


def one_by_one(layers: Sequence[Layer], x: Tensor, context: Context) -> Tensor:
    """The layers in their order, [s, b, h] → [s, b, h]."""
    for layer in layers:
        x = layer(x, context)
    return x


class GPT(nn.Module):
    """The decoder of arXiv 2005.14165, with the variants that `Network` names."""

    layers: Sequence[Layer]  # an nn.ModuleList, which torch types as a list of any modules

    def __init__(self, net: Network, vocabulary: int, kernel: Kernel, seed: int) -> None:
        super().__init__()
        self.net = net
        self.run_layers: RunLayers = one_by_one
        rows = net.padded_vocabulary(vocabulary)
        # Its values come later: to give it some on the meta device torch would import its compiler
        unset = torch.empty(rows, net.hidden_size)
        self.tokens: nn.Embedding = Tokens(rows, net.hidden_size, _weight=unset)
        self.positions: Positions | None = None
        if not net.use_rotary_position_embeddings:
            self.positions = Positions(net.positions, net.hidden_size)
        self.dropout = Dropout(net.hidden_dropout, seed, 0)
        layers = [Layer(net, kernel, seed, number) for number in range(net.num_layers)]
        self.layers = nn.ModuleList(layers)  # type: ignore[assignment]
        self.norm = Norm(net.hidden_size, net.normalization, net.layernorm_epsilon)
        table = self.tokens.weight
        if net.untie_embeddings_and_output_weights:
            table = nn.Parameter(torch.empty(rows, net.hidden_size))
        self.head = Head(table, vocabulary)

    def forward(
        self,
        tokens: Tensor,
        labels: Tensor,
        weights: Tensor | None,
        positions: Tensor,
        documents: Documents = None,
        forward_pass: int = 0,
    ) -> Tensor:
        """Σ weights · cross entropy, a scalar fp32; without weights each token's, [s, b].

        tokens, labels [b, s] and positions [b or 1, s] int64, weights [b, s] fp32 of the sample,
        or of this rank's part of it where ranks share a sample outside tensor parallelism.
        """
        x = self.hidden(tokens, positions, documents, forward_pass)
        return self.head(x, labels.t(), None if weights is None else weights.t())

    def hidden(
        self,
        tokens: Tensor,
        positions: Tensor,
        documents: Documents = None,
        forward_pass: int = 0,
    ) -> Tensor:
        """What the head works on, [s, b, h], for tokens [b, s] at positions [b or 1, s]."""
        x = self.tokens(tokens.t())
        if self.positions is not None:
            x = x + self.positions(positions.t())
        x = self.dropout(x, forward_pass)
        context = Context(self._rotary(positions, x.dtype), documents, forward_pass)
        return self.norm(self.run_layers(self.layers, x, context))

    def _rotary(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """(cos, sin), each [s, b or 1, 1, rotary_size/2], for positions [b or 1, s]; or None. In
        the type that every layer needs them in.
        """
        net = self.net
        if not net.use_rotary_position_embeddings:
            return None
        cos, sin = rotary_table(positions, net.rotary_size, net.rope_theta)
        return cos.to(dtype), sin.to(dtype)
