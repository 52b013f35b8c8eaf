"""What a config.json may say where a family reads it: a number for a number, and one that can be.

    check_values(config)        # raises UserError, which names the key
    check_network(network)      # the same of what does not go together

A family asks for keys without looking what they hold (family.py, llama.py, …).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from sys import float_info
from typing import Any

from longseq.config.arguments import Network
from longseq.config.flags import flags_of
from longseq.errors import UserError
from longseq.reports.format import counted

MOST = 10**8  # of what is counted: more of it is a slip, and names would be made for each

Kind = tuple[str, Callable[[Any], bool]]  # what a value has to be, and whether it is


def _or_null(kind: Kind) -> Kind:
    return f"{kind[0]}, or null", lambda value: value is None or kind[1](value)


def _number_of(field: str) -> Kind:
    """What a flag of the network takes, and so the run that is to go on."""
    (item,) = (item for item in flags_of(Network) if item.field == field)
    low, high = item.low or 0, float_info.max if item.high is None else item.high
    to = "" if item.high is None else f" to {item.high:g}"
    return (
        f"a number from {low:g}{to}",
        lambda value: type(value) in (int, float) and low <= value <= high,
    )


COUNT: Kind = (
    f"a whole number from 1 to {MOST:,}",
    lambda value: type(value) is int and 0 < value <= MOST,
)
KINDS: tuple[tuple[Kind, str], ...] = (  # and the keys
    (
        COUNT,
        "hidden_size num_hidden_layers num_attention_heads intermediate_size"
        " max_position_embeddings vocab_size n_embd n_layer n_head n_positions",
    ),
    (_or_null(COUNT), "num_key_value_heads head_dim n_inner"),
    (
        _number_of("layernorm_epsilon"),
        "rms_norm_eps layer_norm_eps norm_epsilon layer_norm_epsilon",
    ),
    (_number_of("rope_theta"), "rope_theta rotary_emb_base"),
    (_number_of("rotary_percent"), "rotary_pct partial_rotary_factor"),
    (_or_null(_number_of("attention_dropout")), "attention_dropout attn_pdrop"),
    (_or_null(_number_of("hidden_dropout")), "hidden_dropout residual_dropout resid_pdrop"),
    (
        ("true or false", lambda value: type(value) is bool),
        "tie_word_embeddings attention_bias mlp_bias use_bias",
    ),
    (
        _or_null(("an object", lambda value: isinstance(value, dict))),
        "rope_parameters rope_scaling",
    ),
)


def check_values(config: Mapping[str, Any], within: str = "") -> None:
    """Raise UserError for the first key that holds what no network is made of.

    within: the object of a config.json that these keys are in.
    """
    for (wanted, fits), keys in KINDS:
        for key in keys.split():
            if key in config and not fits(config[key]):
                raise UserError(f"{within}{key} is {str(config[key])[:60]!r}, not {wanted}")
            if isinstance(found := config.get(key), dict):
                check_values(found, f"{key}.")


def check_network(net: Network) -> None:
    """Raise UserError where heads do not divide, or what of them is rotated is no pairs: of an odd
    number of channels transformers turns another part than we, or none at all.
    """
    heads, groups = net.num_attention_heads, net.key_value_heads
    if net.hidden_size % heads:
        raise UserError(f"a width of {net.hidden_size} does not divide by {heads} heads")
    if heads % groups:
        raise UserError(f"{heads} heads do not divide by {groups} of keys and values")
    turned = int(net.head_size * net.rotary_percent)
    if net.use_rotary_position_embeddings and (turned < 2 or turned % 2):
        raise UserError(
            f"{net.rotary_percent} of a head of {net.head_size} is {counted(turned, 'channel')};"
            " only pairs of them are turned here"
        )
