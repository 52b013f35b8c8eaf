"""GPT-NeoX: LayerNorm, biases, GELU, rotary positions over a part of each head."""

from __future__ import annotations

from functools import partial
from typing import Any

from longseq.config.arguments import Network
from longseq.huggingface.families.family import (
    ALL_HEADS,
    BIASES,
    EVEN_PART,
    GELU,
    GELU_MLP,
    LAYERNORM,
    ROTARY,
    Config,
    Family,
    rope,
    rope_of,
    rotary_part,
    shape,
    shape_of,
    tables,
)
from longseq.huggingface.families.moves import Move, by_head, first_rows, linear


def _config(net: Network) -> dict[str, Any]:
    return {
        **shape(net),
        "hidden_act": GELU[0],
        "layer_norm_eps": net.layernorm_epsilon,
        "use_parallel_residual": False,
        "attention_bias": True,
        "rotary_emb_base": net.rope_theta,
        "rotary_pct": rotary_part(net),
        **rope(net),
    }


def _network(config: Config) -> Network:
    theta, part = rope_of(config, "rotary_emb_base", "rotary_pct")
    return Network(
        **shape_of(config),
        layernorm_epsilon=config.get("layer_norm_eps", 1e-5),
        untie_embeddings_and_output_weights=not config.get("tie_word_embeddings", False),
        use_rotary_position_embeddings=True,
        rotary_percent=part,
        rope_theta=theta,
    )


def _moves(net: Network, vocabulary: int) -> list[Move]:
    top = "gpt_neox"
    moves = tables(net, vocabulary, f"{top}.embed_in.weight", "embed_out.weight", first_rows)
    moves += linear("norm", f"{top}.final_layer_norm", True)
    heads = partial(by_head, heads=net.num_attention_heads)
    for number in range(net.num_layers):
        ours, theirs = f"layers.{number}", f"{top}.layers.{number}"
        moves += linear(f"{ours}.attention_norm", f"{theirs}.input_layernorm", True)
        for kind in ("weight", "bias"):
            name = f"{theirs}.attention.query_key_value.{kind}"
            moves.append(heads(f"{ours}.attention.qkv.{kind}", name))
        moves += linear(f"{ours}.attention.projection", f"{theirs}.attention.dense", True)
        moves += linear(f"{ours}.mlp_norm", f"{theirs}.post_attention_layernorm", True)
        moves += linear(f"{ours}.mlp.up", f"{theirs}.mlp.dense_h_to_4h", True)
        moves += linear(f"{ours}.mlp.down", f"{theirs}.mlp.dense_4h_to_h", True)
    return moves


FAMILY = Family(
    "gpt_neox",
    "GPTNeoXForCausalLM",
    (ROTARY, LAYERNORM, GELU_MLP, BIASES, ALL_HEADS, EVEN_PART),
    {
        "use_parallel_residual": (True, (False,)),
        "hidden_act": ("gelu", GELU),
        "attention_bias": (True, (True,)),
    },
    _config,
    _network,
    _moves,
)
