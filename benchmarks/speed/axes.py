"""A sequence split over two ranks, against two independent ranks with half of the FLOPs each.

fp32, 4 layers, hidden 256, 8 heads, one thread a rank, attention kept and all else recomputed, in
turn. An independent rank works on a sequence that has half of the FLOPs of the whole one (longer
than half of it, as attention's share grows with s²); both run at once, and the slower one counts.
FLOPs are longseq/run/throughput.py's `model_flops`: causal, recomputation not counted. Also what
the ring's blocks take on its ranks, slowest over fastest. Bars: at least 0.9 of the independent
ranks' speed; at most 1.1.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from benchmarks.start import OUTSIDE, RING, ULYSSES, Job, network, run, run_apart
from benchmarks.table import Table
from benchmarks.timing import in_turn
from longseq.config.arguments import Network
from longseq.run.throughput import model_flops

AXES = {"Ulysses": ULYSSES, "ring": RING}
NETWORK = Network(num_layers=4, hidden_size=256, num_attention_heads=8)


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--pairs", type=int, default=3)


def half_of(tokens: int) -> int:
    """The length with half of the FLOPs of `tokens`, in steps of 64."""

    def flops(s: int) -> float:
        return model_flops(NETWORK, 16, 1, s)

    return min(range(64, tokens, 64), key=lambda s: abs(flops(s) - flops(tokens) / 2))


def main(options: Namespace) -> str:
    half = half_of(options.tokens)
    print(f"{options.tokens:,} tokens on two ranks; {half:,} tokens have half of its FLOPs")
    alone = Job(network(half, *OUTSIDE), warm=1)
    columns = ("independent, s", ".2f"), ("split, s", ".2f"), ("speed", ".3f"), ("of pairs", "")
    table = Table(("axis", "<8"), *columns, ("blocks, slowest/fastest", ".3f"))
    said = []
    for name, flags in AXES.items():
        job = Job(network(options.tokens, *flags, *OUTSIDE), warm=1)
        balance: list[float] = []

        def split(job: Job = job, balance: list[float] = balance) -> float:
            found = run(2, job)
            if all(found.ring_seconds):
                balance.append(max(found.ring_seconds) / min(found.ring_seconds))
            return found.seconds

        pairs = in_turn(
            options.pairs, lambda: max(found.seconds for found in run_apart(2, alone)), split
        )
        worst = max(balance, default=None)
        table.row(name, pairs.first, pairs.second, pairs.ratio, pairs.span, worst)
        said.append(f"{name} {pairs.ratio:.2f}")
    return ", ".join(said)
