"""Which activations are kept for backward, and which are recomputed.

policy = asked(config)       # what the flags say; where they leave it open, savings.py chooses
policy.describe()            # one line for the screen
"""

from __future__ import annotations

from dataclasses import dataclass

from longseq.config.arguments import Config
from longseq.model.head_tiles import EXCHANGED

FILLS_GPU = 2**24  # numbers of a tile's hidden states: three rounds of 128 x 256 for 132 processors
# Hidden states that a layer makes of each (arXiv 2205.05198: 34 bytes). Of ranks that share them
# each makes fewer, beside those that they exchange, so that a tile of as many bytes has more tokens
MADE = 17
TILE = 2048  # tokens: large enough for a CPU's matmuls at full speed, small beside a long sequence
LEAST = 256  # the same for the smallest
POINTWISE = "norms and activation functions"
TILES = 16  # a CPU's tile is this part of what a rank holds, so that it is small beside it


@dataclass(frozen=True)
class RecomputePolicy:
    """What is recomputed in backward.

    recompute: none, selective (attention's scores), pointwise (norms and activation functions),
    outside-attention, or full.
    method, layers: uniform, in groups of `layers` from the input of the group, and then each from
        its own; or block, the first `layers`.
    rest: none or pointwise, of the layers behind such a block.
    tile: tokens of each sample that are recomputed at once, 0 for all.
    inputs_on_host: kept inputs wait there.
    why: why this was chosen, empty where a flag asked for it.
    """

    recompute: str = "none"
    method: str = "uniform"
    layers: int = 1
    rest: str = "none"
    tile: int = 0
    inputs_on_host: bool = False
    why: str = ""

    def whole_layers(self, count: int) -> int:
        """Of `count` layers those that are recomputed from their inputs: the first ones."""
        if self.recompute not in ("full", "outside-attention"):
            return 0
        return self.layers if self.method == "block" else count

    def part(self, count: int) -> float:
        """Of `count` layers the part that is recomputed from their inputs."""
        return self.whole_layers(count) / count

    def pointwise_layers(self, count: int) -> int:
        """Of `count` layers those of which norms and activation functions are: the last ones."""
        if self.recompute == "pointwise":
            return count
        return count - self.whole_layers(count) if self.rest == "pointwise" else 0

    def describe(self) -> str:
        """One line for the screen."""
        if self.recompute == "none":
            text = "nothing is recomputed"
        elif self.recompute == "selective":
            text = "attention scores are recomputed"
        elif self.recompute == "pointwise":
            text = f"{POINTWISE} are recomputed"
        else:
            which = "layers" if self.recompute == "full" else "layers, but not their attention,"
            if self.method == "block":
                which = f"the first {self.layers} {which}"
            text = f"{which} are recomputed"
            if self.method == "uniform" and self.layers > 1:
                text += f" twice, in groups of {self.layers} whose first input is kept,"
            text += f" in tiles of {self.tile:,} tokens"
            if self.inputs_on_host:
                text += ", inputs in host memory"
            if self.rest == "pointwise":
                text += f"; of the others {POINTWISE}"
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
        tile=max(1, tokens // config.training.micro_batch_size),
        inputs_on_host=memory.checkpoint_in_cpu,
    )


def usual_tile(config: Config, device: str) -> int:
    """Tokens of a tile where no flag says: a power of two."""
    axes, train = config.layout, config.training
    if device != "cpu":
        tokens = FILLS_GPU // config.network.hidden_size
        if axes.sequence_parallel:
            tokens = int(tokens * MADE / (EXCHANGED + MADE / axes.tp))
        return 1 << max(tokens, LEAST).bit_length() - 1
    held = train.micro_batch_size * config.network.seq_length // axes.sequence_ranks
    part = 1 << max(held // TILES, 1).bit_length() - 1
    return min(max(part, LEAST), TILE)
