"""Classes that keep queries, keys and values apart, as Llama does: moves of their layers."""

from __future__ import annotations

from collections.abc import Sequence

from longseq.config.arguments import Network
from longseq.huggingface.families.family import tables
from longseq.huggingface.families.moves import Move, first_rows, linear, split


def norm(net: Network, ours: str, theirs: str) -> list[Move]:
    """A norm; LayerNorm has a bias."""
    return list(linear(ours, theirs, net.normalization == "layernorm"))


def separate_moves(net: Network, vocabulary: int, up: Sequence[str], down: str) -> list[Move]:
    """up: their name of the first matrix of the MLP, or of its gate and input."""
    moves = tables(net, vocabulary, "model.embed_tokens.weight", "lm_head.weight", first_rows)
    moves += norm(net, "norm", "model.norm")
    kv = net.key_value_heads * net.head_size
    kinds = ("weight",) if net.disable_bias_linear else ("weight", "bias")
    for number in range(net.num_layers):
        ours, theirs = f"layers.{number}", f"model.layers.{number}"
        moves += norm(net, f"{ours}.attention_norm", f"{theirs}.input_layernorm")
        moves += norm(net, f"{ours}.mlp_norm", f"{theirs}.post_attention_layernorm")
        for kind in kinds:
            parts = [f"{theirs}.self_attn.{name}_proj.{kind}" for name in "qkv"]
            rows = (net.hidden_size, kv, kv)
            moves.append(split(f"{ours}.attention.qkv.{kind}", parts, rows))
            parts = [f"{theirs}.mlp.{name}.{kind}" for name in up]
            moves.append(split(f"{ours}.mlp.up.{kind}", parts, [net.ffn_size] * len(up)))
        bias = not net.disable_bias_linear
        moves += linear(f"{ours}.attention.projection", f"{theirs}.self_attn.o_proj", bias)
        moves += linear(f"{ours}.mlp.down", f"{theirs}.mlp.{down}", bias)
    return moves
