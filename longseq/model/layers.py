"""The two halves of a transformer layer, and the layer: plain PyTorch, [s, b, h] → [s, b, h]."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longseq.attention.exchange import Exchange, Three
from longseq.attention.kernel import AttentionDropout, Kernel
from longseq.config.arguments import Network
from longseq.model.context import Context
from longseq.model.dropout import Dropout
from longseq.model.norm import Norm
from longseq.model.rotary import turned_heads

SLOPE = 2 * math.sqrt(2 / math.pi)  # of GELU's 2u at 0


class SelfAttention(nn.Module):
    """Causal self-attention in three parts, which Layer.run puts together.

    Heads are counted from the tensors, so that it works on a share of them. `exchange` is what
    ranks that share a sample do around the kernel.
    """

    def __init__(self, net: Network, kernel: Kernel, dropout: Dropout) -> None:
        super().__init__()
        bias = not net.disable_bias_linear
        self.head_size = net.head_size
        self.queries_per_group = net.num_attention_heads // net.key_value_heads
        # Rows are all queries, then all keys, then all values: each is a view of the product.
        width = (net.num_attention_heads + 2 * net.key_value_heads) * net.head_size
        self.qkv = nn.Linear(net.hidden_size, width, bias=bias)
        self.projection = nn.Linear(net.hidden_size, net.hidden_size, bias=bias)
        self.kernel, self.dropout = kernel, dropout
        self.exchange = Exchange()

    def heads(self, x: Tensor, context: Context) -> Three:
        """[s, b, h] → queries [s, b, heads, d], keys and values [s, b, groups, d]."""
        heads = self.qkv(x).unflatten(-1, (-1, self.head_size))
        groups = heads.shape[2] // (self.queries_per_group + 2)
        return turned_heads(heads, groups, context.rotary)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        """The kernel: the only place where a token looks at another one.

        q [s, b, heads, d], k and v [s, b, groups, d] as the exchange gives them → [s, b, heads, d].
        """
        drop = None
        if self.training and self.dropout.probability > 0:
            drop = AttentionDropout(
                self.dropout.probability, self.dropout.seed_of(context.forward_pass)
            )
        return self.kernel(q, k, v, context.documents, drop)


class MLP(nn.Module):
    """GELU (tanh form, as Megatron's), or SwiGLU with gate and input in one matrix."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        bias = not net.disable_bias_linear
        self.gated = net.swiglu
        self.up = nn.Linear(net.hidden_size, net.ffn_size * (2 if net.swiglu else 1), bias=bias)
        self.down = nn.Linear(net.ffn_size, net.hidden_size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[s, b, h] → [s, b, h]."""
        return self.down(self.activate(self.up(x)))

    def activate(self, up: Tensor) -> Tensor:
        """[s, b, ffn], or with gates before the inputs [s, b, 2 ffn] → [s, b, ffn]."""
        if self.gated:
            gate, x = up.chunk(2, -1)
            return F.silu(gate) * x
        if torch.compiler.is_compiling():
            return _gelu(up)
        return F.gelu(up, approximate="tanh")


def _gelu(x: Tensor) -> Tensor:
    """The tanh form (arXiv 1606.08415) of x of any shape, as x · sigmoid(2u): the same number, and
    an exponential where compiled code's tanh takes a GPU longer than its memory.
    """
    return x * torch.sigmoid(x * (SLOPE + 0.044715 * SLOPE * x * x))


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), with dropout on both branches."""

    def __init__(self, net: Network, kernel: Kernel, seed: int, number: int) -> None:
        super().__init__()
        norm = net.hidden_size, net.normalization, net.layernorm_epsilon
        places = [3 * number + i for i in (1, 2, 3)]
        self.attention_norm = Norm(*norm)
        self.attention = SelfAttention(net, kernel, Dropout(net.attention_dropout, seed, places[0]))
        self.attention_dropout = Dropout(net.hidden_dropout, seed, places[1])
        self.mlp_norm = Norm(*norm)
        self.mlp = MLP(net)
        self.mlp_dropout = Dropout(net.hidden_dropout, seed, places[2])

        self.run: RunLayer = as_written
        self.before: Before = before_attention
        self.after: After = after_attention

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[s, b, h] → [s, b, h]."""
        return self.run(self, x, context)

    def heads(self, x: Tensor, context: Context) -> Three:
        """[s, b, h] → queries [s, b, heads, d], keys and values [s, b, groups, d]."""
        return self.before(self, x, context)

    def finish(self, x: Tensor, attended: Tensor, context: Context) -> Tensor:
        """The rest of the layer: its input x [s, b, h] and attention's output [s, b, heads, d] →
        [s, b, h].
        """
        return self.after(self, x, attended, context)


RunLayer = Callable[[Layer, Tensor, Context], Tensor]
Before = Callable[[Layer, Tensor, Context], Three]
After = Callable[[Layer, Tensor, Tensor, Context], Tensor]


def before_attention(layer: Layer, x: Tensor, context: Context) -> Three:
    """What a layer does before attention; shapes as in Layer.heads."""
    return layer.attention.heads(layer.attention_norm(x), context)


def after_attention(layer: Layer, x: Tensor, attended: Tensor, context: Context) -> Tensor:
    """What it does after attention; shapes as in Layer.finish."""
    y = layer.attention.projection(attended.flatten(2))
    x = x + layer.attention_dropout(y, context.forward_pass, context.first)
    y = layer.mlp(layer.mlp_norm(x))
    return x + layer.mlp_dropout(y, context.forward_pass, context.first)


def as_written(layer: Layer, x: Tensor, context: Context) -> Tensor:
    """The layer from its input to its output, [s, b, h]; autograd keeps what it needs."""
    exchange = layer.attention.exchange
    q, k, v = exchange.scatter_heads(*layer.heads(x, context))
    y = exchange.gather_heads(layer.attention.attend(q, k, v, context))
    return layer.finish(x, y, context)
