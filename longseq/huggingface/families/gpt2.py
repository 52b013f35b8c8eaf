"""GPT-2: learned positions, LayerNorm, biases, GELU; its linear layers are stored as [in, out]."""

from __future__ import annotations

from typing import Any

from longseq.config.arguments import Network
from longseq.config.network import position_block
from longseq.huggingface.families.family import (
    ALL_HEADS,
    BIASES,
    GELU,
    GELU_MLP,
    LAYERNORM,
    LEARNED,
    Config,
    Family,
    tables,
)
from longseq.huggingface.families.moves import Move, first_rows, joined, linear, transposed


def _config(net: Network) -> dict[str, Any]:
    return {
        "n_embd": net.hidden_size,
        "n_layer": net.num_layers,
        "n_head": net.num_attention_heads,
        "n_inner": net.ffn_size,
        "n_positions": net.positions,
        "activation_function": GELU[0],
        "layer_norm_epsilon": net.layernorm_epsilon,
        "attn_pdrop": net.attention_dropout,
        "resid_pdrop": net.hidden_dropout,
        "embd_pdrop": net.hidden_dropout,
    }


def _network(config: Config) -> Network:
    hidden, positions = config["n_embd"], config["n_positions"]
    return Network(
        num_layers=config["n_layer"],
        hidden_size=hidden,
        num_attention_heads=config["n_head"],
        ffn_hidden_size=config.get("n_inner") or 4 * hidden,
        seq_length=positions,
        max_position_embeddings=positions,
        attention_dropout=config.get("attn_pdrop", 0.1) or 0.0,
        hidden_dropout=config.get("resid_pdrop", 0.1) or 0.0,
        layernorm_epsilon=config.get("layer_norm_epsilon", 1e-5),
        untie_embeddings_and_output_weights=not config.get("tie_word_embeddings", True),
    )


def _moves(net: Network, vocabulary: int) -> list[Move]:
    top = "transformer"
    moves = tables(net, vocabulary, f"{top}.wte.weight", "lm_head.weight", first_rows)
    rows = position_block(net.positions)
    blocks = range(-(-net.positions // rows))
    names = [f"positions.blocks.{number}.weight" for number in blocks]
    moves.append(joined(names, f"{top}.wpe.weight", rows))
    moves += linear("norm", f"{top}.ln_f", True)
    for number in range(net.num_layers):
        ours, theirs = f"layers.{number}", f"{top}.h.{number}"
        moves += linear(f"{ours}.attention_norm", f"{theirs}.ln_1", True)
        moves += linear(f"{ours}.attention.qkv", f"{theirs}.attn.c_attn", True, transposed)
        moves += linear(f"{ours}.attention.projection", f"{theirs}.attn.c_proj", True, transposed)
        moves += linear(f"{ours}.mlp_norm", f"{theirs}.ln_2", True)
        moves += linear(f"{ours}.mlp.up", f"{theirs}.mlp.c_fc", True, transposed)
        moves += linear(f"{ours}.mlp.down", f"{theirs}.mlp.c_proj", True, transposed)
    return moves


FAMILY = Family(
    "gpt2",
    "GPT2LMHeadModel",
    (LEARNED, LAYERNORM, GELU_MLP, BIASES, ALL_HEADS),
    {
        "activation_function": ("gelu_new", GELU),
        "scale_attn_weights": (True, (True,)),
        "scale_attn_by_inverse_layer_idx": (False, (False,)),
    },
    _config,
    _network,
    _moves,
)
