"""StarCoder2: LayerNorm, GELU, rotary positions over whole heads, grouped heads, biases or none."""

from __future__ import annotations

from typing import Any

from longseq.config.arguments import Network
from longseq.huggingface.families.family import (
    GELU,
    GELU_MLP,
    LAYERNORM,
    ROTARY,
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
        "hidden_act": GELU[0],
        "norm_epsilon": net.layernorm_epsilon,
        "num_key_value_heads": net.key_value_heads,
        "use_bias": not net.disable_bias_linear,
        "sliding_window": None,
        "residual_dropout": net.hidden_dropout,
        "embedding_dropout": net.hidden_dropout,
        **rope(net),
    }


def _network(config: Config) -> Network:
    checked_heads(config)
    theta, _ = rope_of(config)
    return Network(
        **shape_of(config, "residual_dropout"),
        num_key_value_heads=config["num_key_value_heads"] or 0,
        layernorm_epsilon=config.get("norm_epsilon", 1e-5),
        disable_bias_linear=not config.get("use_bias", True),
        untie_embeddings_and_output_weights=not config.get("tie_word_embeddings", True),
        use_rotary_position_embeddings=True,
        rope_theta=theta,
    )


def _moves(net: Network, vocabulary: int) -> list[Move]:
    return separate_moves(net, vocabulary, ("c_fc",), "c_proj")


FAMILY = Family(
    "starcoder2",
    "Starcoder2ForCausalLM",
    (ROTARY, LAYERNORM, GELU_MLP, WHOLE_HEADS),
    {"hidden_act": (GELU[0], GELU), "sliding_window": (None, (None,))},
    _config,
    _network,
    _moves,
)
