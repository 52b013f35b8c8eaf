"""Its parameters' names and pieces ↔ ours, and our first values for its network.

    our_name("language_model.encoder.layers.0.mlp.dense_h_to_4h.bias", 4)   # layers.0.mlp.up.bias
    give_first_values(model, net, vocabulary, seed, rank, size)

Both keep queries, keys and values one after the other, and gate before input, so that a piece of
theirs is ours cut by sharding.Sharding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from longseq.attention.kernel import kernel
from longseq.config.arguments import Network
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


def parts_of(name: str, net: Network, rows: int) -> tuple[int, ...]:
    """What our parameter `name` of `rows` rows is made of, one after the other, along them."""
    if ".qkv." in name:
        groups = net.key_value_heads * net.head_size
        return (net.hidden_size, groups, groups)
    if ".up." in name and net.swiglu:
        return (net.ffn_size, net.ffn_size)
    return (rows,)


def cut(whole: Tensor, name: str, net: Network, parameter: Tensor, rank: int, size: int) -> Tensor:
    """Tensor-parallel rank `rank`'s piece of our whole tensor, as its `parameter` is cut."""
    if size == 1 or not getattr(parameter, "tensor_model_parallel", False):
        return whole
    dim: int = parameter.partition_dim  # type: ignore[attr-defined]
    parts = parts_of(name, net, whole.shape[0]) if dim == 0 else (whole.shape[dim],)
    return Sharding(dim, parts, rank, size).take(whole)


def first_values(net: Network, vocabulary: int, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Name and first value of each of our parameters, whole; the positions as one table."""
    with torch.device("meta"):
        model = GPT(net, vocabulary, kernel("core"), seed)
    blocks = []
    for name, parameter in model.named_parameters():
        value = first_value(name, parameter, net, seed)
        if name.startswith(POSITIONS):
            blocks.append(value)
        else:
            yield name, value
    if blocks:
        yield POSITIONS, torch.cat(blocks)


@torch.no_grad()
def give_first_values(
    model: nn.Module, net: Network, vocabulary: int, seed: int, rank: int, size: int, piped: bool
) -> None:
    """Start its `model` from the network that ours starts from with this seed."""
    theirs = {our_name(name, piped): one for name, one in model.named_parameters()}
    for name, whole in first_values(net, vocabulary, seed):
        if name in theirs:  # a pipeline's stage has some of them
            theirs[name].copy_(cut(whole, name, net, theirs[name], rank, size))
