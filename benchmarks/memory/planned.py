"""Planned and simulated peak beside the measured one, for random products of what decides it.

Drawn are layout, ZeRO stage, recomputation, precision, vocabulary, length and network. Each is
trained on CPU ranks for a short step, which makes the optimizer's states, and one of its length;
measured is the resident peak of that above what the rank held before the trainer, freed tensors
given back at once. What a rank holds that is no tensor (`programs` of memory/need.py) is in both.
Bar: each within 10%.
"""

from __future__ import annotations

import random
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.start import RING, SPLIT, ULYSSES, Job, network, run
from benchmarks.table import Table
from longseq.config.arguments import Config
from longseq.config.checks import parse_config
from longseq.memory.need import needed
from longseq.memory.recompute_policy import asked

BAR = 0.1
LAYOUTS: dict[str, tuple[int, tuple[str, ...]]] = {
    "alone": (1, ()),
    "dp 2": (2, ()),
    "tp 2": (2, SPLIT[:2]),
    "tp 2, split": (2, SPLIT),
    "ulysses 2": (2, ULYSSES),
    "ring 2": (2, RING),
    "tp 2 x ulysses 2": (4, (*SPLIT, *ULYSSES)),
    "ulysses 2 x dp 2": (4, ULYSSES),
}
OFTEN = (2, 2, 2, 3, 3, 3, 1, 1)  # weights: four ranks on two cores are slow
WAYS = ("none", "selective", "pointwise", "outside-attention", "full")
NETWORKS = {"": (), "llama": ("--swiglu", "--normalization", "rmsnorm", "--disable-bias-linear")}
MIB = 2**20
SHORT = 256  # tokens


@dataclass(frozen=True)
class Case:
    """One product: ranks, the trainer's flags, the vocabulary; `name` says them in short."""

    name: str
    ranks: int
    flags: list[str]
    vocabulary: int

    @property
    def config(self) -> Config:
        return parse_config([*self.flags, "--device", "cpu"], self.ranks)


@dataclass(frozen=True)
class Peaks:
    """Bytes of the rank that needs most."""

    measured: float
    simulated: float
    planned: float

    def off(self, found: float) -> float:
        """How far `found` is from what was measured, as a part of that."""
        return found / self.measured - 1


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--sample", type=int, default=24, help="how many are drawn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="+", help="these of them, counted from 1")


def draw(count: int, seed: int) -> Iterator[Case]:
    """`count` products; the lengths are such that activations weigh something in each."""
    dice = random.Random(seed)
    for _ in range(count):
        layout = dice.choices(list(LAYOUTS), OFTEN)[0]
        ranks, axes = LAYOUTS[layout]
        stage, way = dice.choice("0123"), dice.choice(WAYS)
        dtype, vocabulary = dice.choice(("fp32", "bf16")), dice.choice((64, 8192, 50304))
        layers, hidden = dice.choice((2, 4, 6)), dice.choice((256, 384, 512))
        tokens = 4096 * dice.randint(1, 3) * max(1, ranks // 2)
        flags = network(tokens, *axes, layers=layers, hidden=hidden)
        flags += ["--zero-stage", stage, "--recompute-granularity", way]
        flags += ["--bf16"] if dtype == "bf16" else []
        kind = dice.choice(list(NETWORKS))
        flags += NETWORKS[kind]
        shape = f"{layers} x {hidden}{kind and ' ' + kind}"
        name = f"{layout}, zero {stage}, {way}, {dtype}, {shape}, {vocabulary}, {tokens}"
        yield Case(name, ranks, flags, vocabulary)


def measure(case: Case) -> float:
    """Bytes above the base, of the rank that needs most, in processes of its own: what a trainer
    before it in the same ones kept would be given to the next, and counted for neither.
    """
    job = Job(case.flags, short=SHORT, vocabulary=case.vocabulary, settled=True, blocks=True)
    return run(case.ranks, job).grown_gib * 2**30


def peaks(case: Case) -> Peaks:
    """All three of a case."""
    from longseq.planning.simulate.rank import simulate

    warnings.simplefilter("ignore")
    config, policy = case.config, asked(case.config)
    found = simulate(config, case.vocabulary, policy, on_gpu=False)
    estimated = needed(config, case.vocabulary, policy)
    simulated = found.peak.total + estimated.by_kind["programs"]
    return Peaks(measure(case), simulated, estimated.total)


def main(options: Namespace) -> str:
    drawn = list(draw(options.sample, options.seed))
    numbers = options.only or range(1, len(drawn) + 1)
    if not all(1 <= number <= len(drawn) for number in numbers):
        sys.exit(f"--only {options.only}: give numbers from 1 to {len(drawn)}")
    columns = ("measured MiB", ",.0f"), ("simulated", ",.0f"), ("off", "+.1%")
    table = Table(("", "d"), ("case", "<76"), *columns, ("planned", ",.0f"), ("off", "+.1%"))
    missed = {"simulated": 0, "planned": 0}
    for number in numbers:
        here = peaks(drawn[number - 1])
        off = here.off(here.simulated), here.off(here.planned)
        missed["simulated"] += abs(off[0]) > BAR
        missed["planned"] += abs(off[1]) > BAR
        row = here.measured / MIB, here.simulated / MIB, off[0], here.planned / MIB, off[1]
        table.row(number, drawn[number - 1].name, *row)
    return "; ".join(
        f"{name} beyond {BAR:.0%} in {n} of {len(numbers)}" for name, n in missed.items()
    )
