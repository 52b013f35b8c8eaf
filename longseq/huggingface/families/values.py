"""What a config.json may say where a family reads it: a number for a number, and one that can be.

    check_values(config)        # raises UserError, which names the key
    check_network(network)      # the same of what does not go together

A family asks for keys without looking what they hold (family.py, llama.py, …).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from longseq.config.arguments import Network
from longseq.errors import UserError

MOST = 10**8  # of what is counted: more of it is a slip, and names would be made for each


def _count(value: Any) -> bool:
    return type(value) is int and 0 < value <= MOST


def _number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= MOST and math.isfinite(value)


def _left_out_or(kind: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or kind(value)


Kind = tuple[str, Callable[[Any], bool], str]
KINDS: tuple[Kind, ...] = (  # what it has to be, whether it is, the keys
    (
        "a whole number above 0",
        _count,
        "hidden_size num_hidden_layers num_attention_heads intermediate_size"
        " max_position_embeddings vocab_size n_embd n_layer n_head n_positions",
    ),
    (
        "a whole number above 0, or null",
        _left_out_or(_count),
        "num_key_value_heads head_dim n_inner",
    ),
    (
        "a number, 0 or more",
        _number,
        "rms_norm_eps layer_norm_eps norm_epsilon layer_norm_epsilon",
    ),
    (
        "a number from 1",
        lambda value: _number(value) and value >= 1,
        "rope_theta rotary_emb_base",
    ),
    (
        "a part from 0 to 1",
        lambda value: _number(value) and value <= 1,
        "rotary_pct partial_rotary_factor",
    ),
    (
        "true or false",
        lambda value: type(value) is bool,
        "tie_word_embeddings attention_bias mlp_bias use_bias",
    ),
    (
        "an object",
        _left_out_or(lambda value: isinstance(value, dict)),
        "rope_parameters rope_scaling",
    ),
)


def check_values(config: Mapping[str, Any], within: str = "") -> None:
    """Raise UserError for the first key that holds what no network is made of.

    within: the object of a config.json that these keys are in.
    """
    for wanted, fits, keys in KINDS:
        for key in keys.split():
            if key in config and not fits(config[key]):
                raise UserError(f"{within}{key} is {str(config[key])[:60]!r}, not {wanted}")
            if isinstance(found := config.get(key), dict):
                check_values(found, f"{key}.")


def check_network(net: Network) -> None:
    """Raise UserError where heads do not divide, or nothing of them is rotated."""
    heads, groups = net.num_attention_heads, net.key_value_heads
    if net.hidden_size % heads:
        raise UserError(f"a width of {net.hidden_size} does not divide by {heads} heads")
    if heads % groups:
        raise UserError(f"{heads} heads do not divide by {groups} of keys and values")
    if net.use_rotary_position_embeddings and net.rotary_size < 2:
        raise UserError(f"{net.rotary_percent} of a head of {net.head_size} is no pair")
