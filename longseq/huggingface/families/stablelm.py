"""StableLM: LayerNorm, SwiGLU, rotary positions over a part of each head, grouped heads."""

from __future__ import annotations

from typing import Any

from longseq.config.arguments import Network
from longseq.huggingface.families.family import (
    EVEN_PART,
    LAYERNORM,
    NO_BIASES,
    ROTARY,
    SWIGLU,
    Config,
    Family,
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
        "layer_norm_eps": net.layernorm_epsilon,
        "num_key_value_heads": net.key_value_heads,
        "use_qkv_bias": False,
        "qk_layernorm": False,
        "use_parallel_residual": False,
        **rope(net),
    }


def _network(config: Config) -> Network:
    theta, part = rope_of(config)
    return Network(
        **shape_of(config),
        num_key_value_heads=config["num_key_value_heads"] or 0,
        layernorm_epsilon=config.get("layer_norm_eps", 1e-5),
        swiglu=True,
        disable_bias_linear=True,
        untie_embeddings_and_output_weights=not config.get("tie_word_embeddings", False),
        use_rotary_position_embeddings=True,
        rotary_percent=part,
        rope_theta=theta,
    )


def _moves(net: Network, vocabulary: int) -> list[Move]:
    return separate_moves(net, vocabulary, ("gate_proj", "up_proj"), "down_proj")


FAMILY = Family(
    "stablelm",
    "StableLmForCausalLM",
    (ROTARY, LAYERNORM, SWIGLU, NO_BIASES, EVEN_PART),
    {
        "hidden_act": ("silu", ("silu",)),
        "use_qkv_bias": (False, (False,)),
        "qk_layernorm": (False, (False,)),
        "use_parallel_residual": (False, (False,)),
    },
    _config,
    _network,
    _moves,
)
