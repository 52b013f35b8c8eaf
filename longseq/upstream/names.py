"""Its parameters' names and pieces ↔ ours, and our first values for its network.

    our_name("language_model.encoder.layers.0.mlp.dense_h_to_4h.bias", 4)   # layers.0.mlp.up.bias
    Held.of(model, config, rank).fill(first_values(net, vocabulary, seed))

Both keep queries, keys and values one after the other, and gate before input, so that a piece of
theirs is ours cut by sharding.Sharding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from longseq.attention.kernel import kernel
from longseq.config.arguments import Config, Network
from longseq.engine.network.initialize import first_value
from longseq.model.gpt import GPT
from longseq.parallel.sharding import Sharding

PARTS = {
    "input_layernorm": "attention_norm",
    "self_attention.query_key_value": "attention.qkv",
    "self_attention.dense": "attention.projection",
    "post_attention_layernorm": "mlp_norm",
    "mlp.dense_h_to_4h": "mlp.up",
    "mlp.dense_4h_to_h": "mlp.down",
}
TOKENS, POSITIONS, HEAD = "tokens.weight", "positions", "head.weight"
TABLES = {
    "word_embeddings.weight": TOKENS,
    "position_embeddings.weight": POSITIONS,
    "output_layer.weight": HEAD,
    "lm_head.weight": HEAD,
}
LAYER = re.compile(r"(?:language_model\.encoder\.layers\.)?(\d+)\.(.+)\.(weight|bias)\Z")
LAST_NORM = re.compile(r"(?:language_model\.encoder\.final_layernorm|\d+)\.(weight|bias)\Z")
BEFORE = 2  # modules of a pipeline before its first layer: a cast, and the embedding


def our_name(name: str, piped: bool = False) -> str:
    """The name of our parameter for its `name`; "positions" for the whole table of positions.

    piped: the names are those of its pipeline, where a layer is numbered among all modules.
    """
    for end, ours in TABLES.items():
        if name.endswith(end):
            return ours
    if match := LAYER.match(name):
        number, part, kind = match.groups()
        if part in PARTS:
            return f"layers.{int(number) - BEFORE * piped}.{PARTS[part]}.{kind}"
    if match := LAST_NORM.match(name):
        return f"norm.{match[1]}"
    raise KeyError(name)


def split_dim(name: str) -> int | None:
    """The dimension along which tensor-parallel ranks share our parameter `name`; None: none."""
    if name in (TOKENS, HEAD) or ".qkv." in name or ".up." in name:
        return 0
    return 1 if name.endswith((".projection.weight", ".down.weight")) else None


def parts_of(name: str, net: Network, length: int) -> tuple[int, ...]:
    """What `length` of parameter `name` along that dimension is made of, one after the other."""
    if ".qkv." in name:
        groups = net.key_value_heads * net.head_size
        return (net.hidden_size, groups, groups)
    if ".up." in name and net.swiglu:
        return (net.ffn_size, net.ffn_size)
    return (length,)


def cut(whole: Tensor, name: str, net: Network, rank: int, size: int) -> Tensor:
    """Tensor-parallel rank `rank`'s piece of our whole tensor."""
    dim = split_dim(name)
    if size == 1 or dim is None:
        return whole
    return Sharding(dim, parts_of(name, net, whole.shape[dim]), rank, size).take(whole)


def join(pieces: Sequence[Tensor], name: str, net: Network) -> Tensor:
    """The whole tensor from the pieces of all tensor-parallel ranks."""
    dim = split_dim(name)
    if len(pieces) == 1 or dim is None:
        return pieces[0]
    parts = parts_of(name, net, sum(piece.shape[dim] for piece in pieces))
    shares = [piece.split([part // len(pieces) for part in parts], dim) for piece in pieces]
    return torch.cat([share[n] for n in range(len(parts)) for share in shares], dim)


def shapes(net: Network, vocabulary: int) -> dict[str, Tensor]:
    """Each of our parameters, whole, without numbers; the positions as one table."""
    with torch.device("meta"):
        return dict(one_table(GPT(net, vocabulary, kernel("core"), 0).named_parameters()))


def first_values(net: Network, vocabulary: int, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Name and first value of each of our parameters, whole; the positions as one table."""
    with torch.device("meta"):
        model = GPT(net, vocabulary, kernel("core"), seed)
    named = ((name, first_value(name, one, net, seed)) for name, one in model.named_parameters())
    return one_table(named)


def one_table(named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The same, with the blocks of positions, which come in their order, as one table."""
    blocks = []
    for name, value in named:
        if name.startswith(POSITIONS):
            blocks.append(value)
        else:
            yield name, value
    if blocks:
        yield POSITIONS, torch.cat(blocks)


@dataclass(frozen=True)
class Held:
    """Its model on this rank: our names of its parameters, and which piece of each it holds."""

    parameters: Mapping[str, nn.Parameter]
    net: Network
    rank: int
    size: int

    @classmethod
    def of(cls, model: nn.Module, config: Config, rank: int) -> Held:
        piped = config.layout.pp > 1
        named = {our_name(name, piped): one for name, one in model.named_parameters()}
        return cls(named, config.network, rank, config.layout.tp)

    def mine(self, values: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Each parameter that is here, and its piece of the whole value."""
        for name, whole in values:
            if name in self.parameters:
                yield self.parameters[name], cut(whole, name, self.net, self.rank, self.size)

    @torch.no_grad()
    def fill(self, values: Iterable[tuple[str, Tensor]]) -> None:
        """Give its model these values."""
        import deepspeed

        for parameter, piece in self.mine(values):
            # At ZeRO stage 3 each replica holds a part of it
            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
                parameter.copy_(piece)
