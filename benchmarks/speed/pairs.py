"""Two ways to run a step, in turn: seconds of each, and first over second.

two_ranks      one rank with two threads, and two ranks with one thread each at a CPU's default
               layout (tensor parallel 2, sequence split). Bar: at least 0.85
ulysses, ring  two ranks that know nothing of each other, each with half of the FLOPs, and two that
               split one sequence; attention kept, all else recomputed. Bar: at least 0.9
tiling         layers recomputed in tiles of 2,048 tokens, and recomputed whole. Bar: at most 1.05
pointwise, outside    norms and activation functions recomputed, all but attention recomputed; and
               nothing

fp32, 4 layers, hidden 256, 8 heads. A rank alone has a sequence with half of the whole one's FLOPs
(longer than half of it, as attention's share grows with s²); both run at once, the slower counts.
FLOPs are longseq/run/throughput.py's `model_flops`: causal, recomputation not counted. "blocks" is
what a ring's blocks take on its slowest rank over its fastest. Bar: at most 1.1.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from benchmarks.start import (
    FULL,
    NOTHING,
    OUTSIDE,
    POINTWISE,
    RING,
    SPLIT,
    ULYSSES,
    Found,
    Job,
    network,
    run,
    run_apart,
)
from benchmarks.table import Table
from benchmarks.timing import Pairs
from longseq.config.arguments import Network
from longseq.run.throughput import model_flops

Way = Callable[[int, int], list[Found]]  # so many tokens, so many steps
NETWORK = Network(num_layers=4, hidden_size=256, num_attention_heads=8)


def together(ranks: int, *flags: str) -> Way:
    """Ranks that share two threads."""
    return lambda tokens, steps: [
        run(ranks, Job(network(tokens, *flags), steps, warm=1), threads=2 // ranks)
    ]


def alone(tokens: int, steps: int) -> list[Found]:
    return run_apart(2, Job(network(half_of(tokens), *OUTSIDE), steps, warm=1))


def whole(tokens: int, steps: int) -> list[Found]:
    """One tile."""
    return together(1, *FULL, "--tile-size", str(tokens))(tokens, steps)


PAIRS: dict[str, tuple[list[int], Way, Way]] = {
    "two_ranks": ([512, 2048], together(1), together(2, *SPLIT)),
    "ulysses": ([16384], alone, together(2, *ULYSSES, *OUTSIDE)),
    "ring": ([16384], alone, together(2, *RING, *OUTSIDE)),
    "pointwise": ([2048, 8192], together(1, *POINTWISE), together(1, *NOTHING)),
    "outside": ([2048, 8192], together(1, *OUTSIDE), together(1, *NOTHING)),
    "tiling": ([8192], together(1, *FULL, "--tile-size", "2048"), whole),
}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", choices=PAIRS)
    parser.add_argument("--lengths", type=int, nargs="+", help="tokens; else those of the figures")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of a run; else 40,960 tokens of them")


def half_of(tokens: int) -> int:
    """The length with half of the FLOPs of `tokens`, in steps of 64."""

    def flops(s: int) -> float:
        return model_flops(NETWORK, 16, 1, s)

    return min(range(64, tokens, 64), key=lambda s: abs(flops(s) - flops(tokens) / 2))


def main(options: Namespace) -> str:
    said = []
    columns = ("first, s", ".3f"), ("second, s", ".3f"), ("ratio", ".3f"), ("of pairs", "<12")
    table = Table(("pair", "<10"), ("tokens", ","), *columns, ("blocks", ".3f"))
    for name in options.names:
        usual, first, second = PAIRS[name]
        for tokens in options.lengths or usual:
            steps = options.steps or max(1, 40960 // tokens)
            found = [(first(tokens, steps), second(tokens, steps)) for _ in range(options.pairs)]
            firsts = [max(one.seconds for one in ones) for ones, _ in found]
            seconds = [max(one.seconds for one in ones) for _, ones in found]
            rings = [f.ring_seconds for _, (f,) in found if all(f.ring_seconds)]
            blocks = max((max(ranks) / min(ranks) for ranks in rings), default=None)
            pairs = Pairs(firsts, seconds)
            table.row(name, tokens, pairs.first, pairs.second, pairs.ratio, pairs.span, blocks)
            said.append(f"{name} {pairs.ratio:.2f} at {tokens:,} tokens")
    return ", ".join(said)
