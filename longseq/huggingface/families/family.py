"""A family: a class of transformers, which of our networks it expresses, and how.

family = family_for(network)                    # raises UserError: what would have to differ
family.config(network), family.moves(network, vocabulary)
network = family_of(config).network(config)     # UserError: none fits
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longseq.config.arguments import Network
from longseq.errors import UserError
from longseq.huggingface.families.moves import Move

Config = Mapping[str, Any]
GELU = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast")  # the tanh form, which ours is


@dataclass(frozen=True)
class Needs:
    """A condition on our network, and the flags that would fulfil it."""

    flags: str
    met: Callable[[Network], bool]


@dataclass(frozen=True)
class Family:
    """model_type and architecture: as config.json has them.

    expected: what a config.json must say for our network to express it: the class's own default,
    for files that leave it out, and the values that will do.
    """

    model_type: str
    architecture: str
    needs: Sequence[Needs]
    expected: Mapping[str, tuple[Any, tuple[Any, ...]]]
    config: Callable[[Network], dict[str, Any]]
    network: Callable[[Config], Network]
    moves: Callable[[Network, int], list[Move]]

    def missing(self, net: Network) -> list[str]:
        """The flags that would have to differ for this class to express the network."""
        return [need.flags for need in self.needs if not need.met(net)]

    def check(self, config: Config) -> None:
        """Raise UserError where a config.json asks for what our network has not."""
        for key, (default, values) in self.expected.items():
            if (found := config.get(key, default)) not in values:
                wanted = " or ".join(map(repr, values))
                raise UserError(f"{key} is {found!r}, and this network has only {wanted}")


ROTARY = Needs("--use-rotary-position-embeddings", lambda net: net.use_rotary_position_embeddings)
LEARNED = Needs(
    "learned positions (no --use-rotary-position-embeddings)",
    lambda net: not net.use_rotary_position_embeddings,
)
LAYERNORM = Needs("--normalization layernorm", lambda net: net.normalization == "layernorm")
RMSNORM = Needs("--normalization rmsnorm", lambda net: net.normalization == "rmsnorm")
SWIGLU = Needs("--swiglu", lambda net: net.swiglu)
GELU_MLP = Needs("no --swiglu", lambda net: not net.swiglu)
BIASES = Needs("no --disable-bias-linear", lambda net: not net.disable_bias_linear)
NO_BIASES = Needs("--disable-bias-linear", lambda net: net.disable_bias_linear)
ALL_HEADS = Needs(
    "no --num-key-value-heads", lambda net: net.key_value_heads == net.num_attention_heads
)
WHOLE_HEADS = Needs("--rotary-percent 1", lambda net: net.rotary_size == net.head_size)
EVEN_PART = Needs(
    "a --rotary-percent that is an even number of channels",
    lambda net: int(net.head_size * rotary_part(net)) == net.rotary_size,
)


def rotary_part(net: Network) -> float:
    """The part of a head that is turned, as it acts here."""
    return net.rotary_size / net.head_size


def shape(net: Network) -> dict[str, Any]:
    """Sizes and dropout, in the words that all classes but GPT-2's use; one that has no dropout
    between layers carries it for the way back.
    """
    return {
        "hidden_size": net.hidden_size,
        "num_hidden_layers": net.num_layers,
        "num_attention_heads": net.num_attention_heads,
        "intermediate_size": net.ffn_size,
        "max_position_embeddings": net.seq_length,
        "attention_dropout": net.attention_dropout,
        "hidden_dropout": net.hidden_dropout,
    }


def shape_of(config: Config, hidden_dropout: str = "hidden_dropout") -> dict[str, Any]:
    """The same as fields of our Network; hidden_dropout: its word for that of layers' outputs."""
    return {
        "hidden_size": config["hidden_size"],
        "num_layers": config["num_hidden_layers"],
        "num_attention_heads": config["num_attention_heads"],
        "ffn_hidden_size": config["intermediate_size"],
        "seq_length": config.get("max_position_embeddings", 2048),
        "attention_dropout": config.get("attention_dropout") or 0.0,
        "hidden_dropout": config.get(hidden_dropout) or 0.0,
    }


def rope(net: Network) -> dict[str, Any]:
    """Rotary settings in the words of transformers 5, and of 4 beside them."""
    values = {"rope_theta": net.rope_theta, "partial_rotary_factor": rotary_part(net)}
    return {**values, "rope_parameters": {"rope_type": "default", **values}}


def rope_of(config: Config, theta: str = "rope_theta", part: str = "partial_rotary_factor") -> Any:
    """(theta, part of a head) out of a config.json of either version; raises UserError where
    frequencies are scaled.
    """
    values = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = values.get("rope_type", values.get("type", "default"))
    if kind != "default":
        raise UserError(
            f"rotary positions of type {kind!r}, and only 'default' is here: a model that was"
            " trained without them goes in with rope_type 'default'"
        )
    default = 0.25 if part == "rotary_pct" or config["model_type"] == "stablelm" else 1.0
    found = values.get("rope_theta", config.get(theta, 10000.0))
    return found, values.get("partial_rotary_factor", config.get(part, default))


def checked_heads(config: Config) -> None:
    """Raise UserError where a head is not hidden / heads wide."""
    width = config["hidden_size"] // config["num_attention_heads"]
    if config.get("head_dim") not in (None, width):
        raise UserError(f"head_dim is {config['head_dim']}; only {width} is here")


def tables(
    net: Network, vocabulary: int, table: str, head: str, move: Callable[[str, str, int], Move]
) -> list[Move]:
    """The embedding, and the head where it has a table of its own."""
    found = [move("tokens.weight", table, vocabulary)]
    if net.untie_embeddings_and_output_weights:
        found.append(move("head.weight", head, vocabulary))
    return found
