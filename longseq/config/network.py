"""The network's flags, and the sizes that follow from them. Standard library only."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from longseq.config.flags import flag, given_flags

# Blocks of learned positions are the same on every layout, so that names and values are: rows in
# multiples of a number that most tensor-parallel sizes divide. A short table is one block, a long
# one at most sixteen, since every block is looked up for every token.
POSITION_UNIT, SHORTEST, MOST = 960, 7, 16


def position_block(rows: int) -> int:
    """Rows of all blocks but the last of a table of `rows` positions (model/positions.py)."""
    return POSITION_UNIT * max(SHORTEST, -(-rows // (POSITION_UNIT * MOST)))


@dataclass(frozen=True)
class Network:
    """The shape of the GPT and how it is initialised."""

    num_layers: int = flag(4, "transformer layers", low=1)
    hidden_size: int = flag(256, "width of the residual stream", low=1)
    num_attention_heads: int = flag(8, "query heads", low=1)
    num_key_value_heads: int = flag(0, "key and value heads; 0: as many as query heads", low=0)
    ffn_hidden_size: int = flag(0, "width of the MLP; 0: 4 x hidden (8/3 x with --swiglu)", low=0)
    seq_length: int = flag(2048, "tokens in a sample", low=1)
    max_position_embeddings: int = flag(0, "rows of the position table; 0: --seq-length", low=0)
    normalization: str = flag("layernorm", "norm", choices=("layernorm", "rmsnorm"))
    layernorm_epsilon: float = flag(1e-5, "added to the variance in norms", low=0, high=1)
    swiglu: bool = flag(False, "gated SiLU MLP in place of GELU")
    disable_bias_linear: bool = flag(False, "linear layers without biases")
    untie_embeddings_and_output_weights: bool = flag(False, "a head of its own")
    use_rotary_position_embeddings: bool = flag(False, "rotary in place of learned positions")
    rotary_percent: float = flag(1.0, "part of each head that is rotated", low=0, high=1)
    rope_theta: float = flag(10000.0, "base of the rotary frequencies", low=1)
    attention_dropout: float = flag(0.0, "dropout of attention weights", low=0, high=0.999)
    hidden_dropout: float = flag(0.0, "dropout of layer outputs", low=0, high=0.999)
    init_method_std: float = flag(0.02, "standard deviation of initial weights", low=1e-9, high=10)
    make_vocab_size_divisible_by: int = flag(128, "the vocabulary is padded to this", low=1)

    @property
    def key_value_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def rotary_size(self) -> int:
        """Leading channels of a head that are rotated: even, 0 with learned positions."""
        if not self.use_rotary_position_embeddings:
            return 0
        return int(self.head_size * self.rotary_percent) // 2 * 2

    @property
    def ffn_size(self) -> int:
        if self.ffn_hidden_size:
            return self.ffn_hidden_size
        if self.swiglu:  # 8/3 h keeps the parameter count; a multiple of 64 keeps matmuls fast
            return (8 * self.hidden_size // 3 + 63) // 64 * 64
        return 4 * self.hidden_size

    @property
    def positions(self) -> int:
        return self.max_position_embeddings or self.seq_length

    def padded_vocabulary(self, vocabulary: int) -> int:
        """Rows of the embedding: the same on every layout, so that the network is the same."""
        step = self.make_vocab_size_divisible_by
        return -(-vocabulary // step) * step

    def __str__(self) -> str:
        heads = f"{self.num_attention_heads} heads"
        if self.key_value_heads != self.num_attention_heads:
            heads += f" on {self.key_value_heads} key-value heads"
        return f"{self.num_layers} layers, hidden {self.hidden_size}, {heads}"

    def parameter_count(self, vocabulary: int) -> int:
        """Parameters of the whole network for a padded vocabulary of `vocabulary` rows."""
        h, bias = self.hidden_size, 0 if self.disable_bias_linear else 1
        norm = 2 * h if self.normalization == "layernorm" else h
        kv = self.key_value_heads * self.head_size
        attention = (h + bias) * (h + 2 * kv) + (h + bias) * h
        f = self.ffn_size
        mlp = (h + bias) * f * (2 if self.swiglu else 1) + (f + bias) * h
        tables = vocabulary * h * (2 if self.untie_embeddings_and_output_weights else 1)
        if not self.use_rotary_position_embeddings:
            tables += self.positions * h
        return self.num_layers * (attention + mlp + 2 * norm) + norm + tables


def training_command(
    net: Network, load: str, variables: Mapping[str, str] | None = None, more: Sequence[str] = ()
) -> str:
    """The line that goes on training weights which no run's folder says the network of.

    The launcher's defaults are not those of the flags. What it always sets is said by its variable
    (no flag takes --use-rotary-position-embeddings back), and the shape in any case. `variables`
    and the flags `more` are added to these.
    """
    said = {"LOAD": load, "SEQ_LEN": str(net.seq_length), **(variables or {})}
    if not net.use_rotary_position_embeddings:
        said["USE_ROTARY"] = "0"
    words = [f"{name}={shlex.quote(value)}" for name, value in said.items()]
    shape = ("num_layers", "hidden_size", "num_attention_heads")
    flags = [w for name in shape for w in (f"--{name.replace('_', '-')}", str(getattr(net, name)))]
    left_out = {"seq_length", "use_rotary_position_embeddings", *shape}
    left_out |= {"max_position_embeddings"} if net.positions == net.seq_length else set()
    rest = {name: value for name, value in asdict(net).items() if name not in left_out}
    flags += [*given_flags(Network, rest), *more]
    return f"{' '.join(words)} ./ALCF/train-gpt3.sh -- {shlex.join(flags)}"
