"""Llama: RMSNorm, SwiGLU, rotary positions over whole heads, grouped heads, biases or none."""

from __future__ import annotations

from typing import Any

from longseq.config.arguments import Network
from longseq.errors import UserError
from longseq.huggingface.families.family import (
    RMSNORM,
    ROTARY,
    SWIGLU,
    WHOLE_HEADS,
    Config,
    Family,
    checked_heads,
    rope,
    rope_of,
    shape,
    shape_of,
)
from longseq.huggingface.families.moves import Move
from longseq.huggingface.families.separate import separate_moves


def _config(net: Network) -> dict[str, Any]:
    return {
        **shape(net),
        "hidden_act": "silu",
        "rms_norm_eps": net.layernorm_epsilon,
        "num_key_value_heads": net.key_value_heads,
        "head_dim": net.head_size,
        "attention_bias": not net.disable_bias_linear,
        "mlp_bias": not net.disable_bias_linear,
        **rope(net),
    }


def _network(config: Config) -> Network:
    checked_heads(config)
    theta, _ = rope_of(config)
    bias = config.get("attention_bias", False)
    if bias != config.get("mlp_bias", False):
        raise UserError("attention_bias and mlp_bias differ; here they are one")
    return Network(
        **shape_of(config),
        num_key_value_heads=config.get("num_key_value_heads") or 0,
        normalization="rmsnorm",
        layernorm_epsilon=config.get("rms_norm_eps", 1e-6),
        swiglu=True,
        disable_bias_linear=not bias,
        untie_embeddings_and_output_weights=not config.get("tie_word_embeddings", False),
        use_rotary_position_embeddings=True,
        rope_theta=theta,
    )


def _moves(net: Network, vocabulary: int) -> list[Move]:
    return separate_moves(net, vocabulary, ("gate_proj", "up_proj"), "down_proj")


FAMILY = Family(
    "llama",
    "LlamaForCausalLM",
    (ROTARY, RMSNORM, SWIGLU, WHOLE_HEADS),
    {"hidden_act": ("silu", ("silu",))},
    _config,
    _network,
    _moves,
)
