"""Which activations are kept for backward, and which are recomputed.

    policy = choose(config, vocabulary, available)      # available: bytes that this rank may use
    policy.describe()                                   # one line for the screen

The flags decide. Where they leave it open, the first of these is taken whose estimated memory fits:
keep everything; recompute everything but attention; recompute everything. Each needs less memory
than the one before and more time.
"""

from __future__ import annotations

from dataclasses import dataclass

from longseq.config.arguments import Config

TILE = 2048  # tokens: large enough for matmuls at full speed, small beside a long sequence
LEAST = 256  # the same for the small matmuls and fast calls of a CPU
TILES = 16  # a CPU's tile is this part of what a rank holds, so that it is small beside it
USABLE = 0.8  # of what is available: an estimate leaves out fragments and libraries' buffers
STATE_BYTES = 18  # a parameter: weights, gradients and Adam's moments, with room for a copy


@dataclass(frozen=True)
class RecomputePolicy:
    """What is recomputed in backward.

    recompute: none, selective (attention's scores), outside-attention, or full.
    method, layers: uniform, from the input of every `layers`-th; or block, the first `layers`.
    tile: tokens that are recomputed at once, 0 for all. inputs_on_host: kept inputs wait there.
    why: why this was chosen, empty where a flag asked for it.
    """

    recompute: str = "none"
    method: str = "uniform"
    layers: int = 1
    tile: int = 0
    inputs_on_host: bool = False
    why: str = ""

    def describe(self) -> str:
        """One line for the screen."""
        if self.recompute == "none":
            text = "nothing is recomputed"
        elif self.recompute == "selective":
            text = "attention scores are recomputed"
        else:
            which = "layers" if self.recompute == "full" else "layers, but not their attention,"
            if self.method == "block":
                which = f"the first {self.layers} {which}"
            text = f"{which} are recomputed"
            if self.method == "uniform" and self.layers > 1:
                text += f", from the input of every {self.layers}th"
            text += f" in tiles of {self.tile:,} tokens"
            if self.inputs_on_host:
                text += ", inputs in host memory"
        return f"{text} ({self.why})" if self.why else text


def asked(config: Config, default: str = "none", device: str = "cpu") -> RecomputePolicy:
    """What the flags say, with `default` where they leave recomputation open."""
    memory = config.memory
    recompute = memory.recompute_granularity
    if memory.checkpoint_activations:
        recompute = "full"
    if recompute == "auto":
        recompute = default
    tokens = memory.tile_size or usual_tile(config, device)
    return RecomputePolicy(
        recompute,
        memory.recompute_method,
        memory.recompute_num_layers,
        max(1, tokens // config.training.micro_batch_size),
        memory.checkpoint_in_cpu,
    )


def usual_tile(config: Config, device: str) -> int:
    """Tokens of a tile where no flag says: a power of two."""
    if device != "cpu":
        return TILE
    axes, train = config.layout, config.training
    held = train.micro_batch_size * config.network.seq_length // axes.sequence_ranks
    part = 1 << max(held // TILES, 1).bit_length() - 1
    return min(max(part, LEAST), TILE)


def choose(config: Config, vocabulary: int, available: int, device: str = "cpu") -> RecomputePolicy:
    """The flags' choice, or the cheapest one whose estimate fits `available` bytes a rank."""
    if config.memory.recompute_granularity != "auto" or config.memory.checkpoint_activations:
        return asked(config, device=device)
    ways = ("none", "outside-attention", "full")
    need = 0.0
    for way in ways:
        need = estimate(config, vocabulary, way)
        if need <= USABLE * available:
            break
    gib = 2**30
    fits = "of" if need <= USABLE * available else "may be too much for"
    why = f"chosen: about {need / gib:.1f} GiB {fits} {available / gib:.1f} GiB a rank"
    return RecomputePolicy(**(asked(config, way, device).__dict__ | {"why": why}))


def estimate(config: Config, vocabulary: int, recompute: str) -> float:
    """Bytes a rank needs at its peak, roughly: states, what layers keep, one layer's own tensors.

    Activations are counted in numbers a token: 18h of a layer that keeps everything (the inputs of
    norms, matmuls and attention; GELU's input and output, and SwiGLU's four tensors), 2h with its
    attention only, h with its input only. The peak is in the backward pass of the last layer: the
    gradients inside its MLP, or, where it is recomputed, 10h for queries, keys, values, outputs and
    their gradients. What a tile needs does not grow with the sequence.
    """
    net, axes, train = config.network, config.layout, config.training
    number = 4 if train.dtype == "fp32" else 2
    inner, outer = net.hidden_size / axes.tp, float(net.hidden_size)
    if axes.sequence_parallel:
        outer /= axes.tp
    mlp = net.ffn_size * (4 if net.swiglu else 2) / axes.tp
    keeps = {
        "none": 4 * outer + 6 * inner + mlp,
        "outside-attention": outer + inner,
        "full": outer,
    }[recompute]
    works = 2 * outer + mlp / 2 if recompute == "none" else 4 * outer + 6 * inner
    tokens = train.micro_batch_size * net.seq_length / axes.sequence_ranks
    activations = tokens * number * (net.num_layers * keeps + works)
    shared = axes.sequence_ranks * axes.dp if train.zero_stage == 3 else 1
    parameters = net.parameter_count(net.padded_vocabulary(vocabulary)) / axes.tp / shared
    return activations + STATE_BYTES * parameters
