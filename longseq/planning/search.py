"""What would fit: layouts, ZeRO, offload and recomputation tried against the estimate.

    found, refused = suggest(request)    # every way, the fastest that fits first
    found = longest(request)             # every way at its longest sequence, the longest first
    very_longest(request)                # the first of those alone, in a fifth of the time
    found[0].choice.line(request)        # the environment line to type

A way is tried with the trainer's own checks, so that what they refuse (heads, divisibility, batch)
is no suggestion; its reason is kept. Standard library only.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from operator import attrgetter
from typing import Any

from longseq.config.arguments import Config
from longseq.config.checks import make_config
from longseq.errors import UserError
from longseq.host.machine import Machine
from longseq.planning.gpus import Node
from longseq.planning.plan import Plan, make_plan

GRID = 1024  # a longest sequence is a multiple of it, and of what the ranks split it into
CHUNK = 65536
MOST = 1 << 34  # tokens: nobody has more
REACH = attrgetter("tokens", "speed")  # of a way: the longest, and of those the fastest
Tell = Callable[[int, int], None]  # so many of so many layouts were tried


def _silent(_done: int, _of: int) -> None:
    """Nobody looks on."""


@dataclass(frozen=True)
class Request:
    """What is asked: the argument list as `groups` (config/arguments.py), ranks, node, words.

    vocabulary: as the data have it.
    """

    groups: Sequence[Any]
    ranks: int
    node: Node
    vocabulary: int

    @property
    def machine(self) -> Machine:
        return Machine(self.node.gpu.capability)


@dataclass(frozen=True)
class Choice:
    """One way to train it. weights_on_host needs stage 3; chunks: attention in chunks on the host.

    recompute: none, pointwise, outside-attention or full; auto: as the trainer will choose.
    """

    tp: int = 1
    ulysses: int = 1
    ring: int = 1
    zero: int = 0
    micro_batch: int = 1
    recompute: str = "none"
    optimizer_on_host: bool = False
    weights_on_host: bool = False
    inputs_on_host: bool = False
    chunks: bool = False

    def config(self, request: Request, tokens: int = 0) -> Config:
        """The checked run; raises UserError. tokens: of a sample, 0: as asked."""
        network, layout, memory, training, data, run = request.groups
        if tokens:
            network = replace(network, seq_length=tokens, max_position_embeddings=0)
        layout = replace(
            layout,
            tensor_model_parallel_size=self.tp,
            sequence_parallel=self.tp > 1,
            ds_sequence_parallel_size=self.ulysses,
            context_parallel_size=self.ring,
        )
        memory = replace(
            memory,
            checkpoint_activations=False,
            recompute_granularity=self.recompute,
            checkpoint_in_cpu=self.inputs_on_host,
            ds_sequence_parallel_fpdt=self.chunks,
            ds_sequence_parallel_fpdt_offloading=self.chunks,
            ds_sequence_parallel_fpdt_chunk_size=CHUNK,
        )
        if self.ring > 1 or self.chunks:
            flags = [name for name in vars(memory) if name.startswith("use_flash_attn_")]
            memory = replace(memory, **{name: name.endswith("_sdpa") for name in flags})
        training = replace(
            training,
            zero_stage=self.zero,
            micro_batch_size=self.micro_batch,
            cpu_optimizer=self.optimizer_on_host,
            remote_device="cpu" if self.weights_on_host else "none",
            device="cuda",
        )
        groups = (network, layout, memory, training, data, run)
        return make_config(groups, request.ranks, request.machine)

    def line(self, request: Request, tokens: int) -> str:
        """What to type; the network's own variables and arguments stay as they are."""
        words = [
            f"NGPUS={request.ranks} MPSIZE={self.tp} SPSIZE={self.ulysses} RINGSIZE={self.ring}",
            f"SEQ_LEN={tokens} MICRO_BATCH={self.micro_batch} ZERO_STAGE={self.zero}",
        ]
        words += ["OFFLOAD_DEVICE=cpu"] if self.optimizer_on_host else []
        words += ["OFFLOAD_PARAM=cpu"] if self.weights_on_host else []
        words += ["USE_FLASH_ATTN=sdpa"] if self.ring > 1 or self.chunks else []
        flags = [f"--recompute-granularity {self.recompute}"] if self.recompute != "auto" else []
        flags += ["--checkpoint-in-cpu"] if self.inputs_on_host else []
        if self.chunks:
            flags += [f"--ds-sequence-parallel-fpdt --ds-sequence-parallel-fpdt-chunk-size {CHUNK}"]
            flags += ["--ds-sequence-parallel-fpdt-offloading"]
        return " ".join([*words, "./ALCF/train-gpt3.sh", *(["--", *flags] if flags else [])])

    def __str__(self) -> str:
        layout = f"tp {self.tp} x ulysses {self.ulysses} x ring {self.ring}, ZeRO {self.zero}"
        parts = [layout, f"micro batch {self.micro_batch}, recompute {self.recompute}"]
        on_host = {
            "optimizer": self.optimizer_on_host,
            "weights": self.weights_on_host,
            "layer inputs": self.inputs_on_host,
            "chunks": self.chunks,
        }
        waiting = [name for name, there in on_host.items() if there]
        return ", ".join(parts) + (f", on the host: {', '.join(waiting)}" if waiting else "")


@dataclass(frozen=True)
class Way:
    """A choice and its plan, at `tokens` of a sample."""

    choice: Choice
    plan: Plan
    tokens: int

    @property
    def speed(self) -> float:
        """Tokens a second of all ranks."""
        return self.plan.speed["tokens_per_second"]


def layouts(ranks: int, heads: int) -> Iterator[Choice]:
    """Every way to share out the ranks; data parallel ranks are what is left."""
    sizes = [n for n in range(1, ranks + 1) if ranks % n == 0]
    for tp, ulysses, ring in product(sizes, repeat=3):
        if ranks % (tp * ulysses * ring) == 0 and tp * ulysses <= heads:
            yield Choice(tp, ulysses, ring)


def ways(layout: Choice, ranks: int, for_length: bool) -> Iterator[Choice]:
    """How memory may be saved on a layout; `for_length`: only what makes room."""
    shards = ranks // layout.tp
    stages = [0, 3] if shards == 1 else [3] if for_length else [1, 3]
    for zero in stages:
        hosts = [(False, False), (True, False), (True, True)][: zero + 1]  # weights: stage 3 only
        for optimizer, weights in hosts:
            some = replace(layout, zero=zero, optimizer_on_host=optimizer, weights_on_host=weights)
            yield from _recomputing(some, for_length)


def _recomputing(choice: Choice, for_length: bool) -> Iterator[Choice]:
    if not for_length:
        for micro, recompute in product((1, 2, 4), ("none", "pointwise", "outside-attention")):
            yield replace(choice, recompute=recompute, micro_batch=micro)
    full = replace(choice, recompute="full")
    yield from (full, replace(full, inputs_on_host=True))
    if choice.ring == 1:
        yield replace(full, inputs_on_host=True, chunks=True)


def planned(request: Request, choice: Choice, tokens: int = 0, timed: bool = True) -> Way:
    """A choice with its plan; raises UserError for what the trainer would refuse."""
    config = choice.config(request, tokens)
    plan = make_plan(config, request.vocabulary, request.node, timed=timed)
    return Way(choice, plan, config.network.seq_length)


@contextmanager
def _without_circles() -> Iterator[None]:
    """Of tens of thousands of plans none refers to itself: looking for circles among them would
    take a fifth of the time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _layouts(request: Request, tell: Tell) -> Iterator[Choice]:
    """The layouts of `request`; tells how many of all are done."""
    every = list(layouts(request.ranks, request.groups[0].num_attention_heads))
    with _without_circles():
        for number, layout in enumerate(every):
            tell(number, len(every))
            yield layout
    tell(len(every), len(every))


def suggest(request: Request, tell: Tell = _silent) -> tuple[list[Way], dict[str, int]]:
    """Every way at the length asked for, those that fit first and the fastest of them first; and
    how many were refused, by reason.
    """
    found, refused = [], dict[str, int]()
    for layout in _layouts(request, tell):
        for choice in ways(layout, request.ranks, for_length=False):
            try:
                found.append(planned(request, choice))
                if _between(found[-2:]):
                    found.append(planned(request, replace(choice, recompute="auto")))
            except UserError as error:
                reason = str(error)
                refused[reason] = refused.get(reason, 0) + 1
                if "micro-batch" not in reason:
                    break  # it is the layout's
    order = {"yes": 0, "close": 1, "no": 2}
    found.sort(key=lambda way: (order[way.plan.fits], _loss(way)))
    return found, refused


def _between(last: Sequence[Way]) -> bool:
    """It fits with all layers recomputed outside attention, and with none not: fewer may do."""
    fits = [way.plan.fits == "yes" for way in last]
    return last[-1].choice.recompute == "outside-attention" and fits == [False, True]


def _loss(way: Way) -> float:
    """What makes one way worse than another: slow if it fits, far from fitting if it does not."""
    return way.plan.fullness if way.plan.fits == "no" else -way.speed


def longest(request: Request, tell: Tell = _silent) -> list[Way]:
    """Every way at its longest sequence that fits, the longest first."""
    found = []
    for layout in _layouts(request, tell):
        for choice in ways(layout, request.ranks, for_length=True):
            way = _longest(request, choice)
            if way:
                found.append(way)
    return sorted(found, key=REACH, reverse=True)


def very_longest(request: Request) -> Way | None:
    """The first of `longest`: no way that does not fit that far is searched."""
    best: Way | None = None
    for layout in _layouts(request, _silent):
        for choice in ways(layout, request.ranks, for_length=True):
            way = _longest(request, choice, best.tokens if best else 0)
            best = max((one for one in (best, way) if one), key=REACH, default=None)
    return best


def _longest(request: Request, choice: Choice, least: int = 0) -> Way | None:
    """The longest sequence of one way; None where the shortest, or `least` tokens, do not fit."""
    split = choice.ulysses * choice.ring * choice.tp * (2 if choice.ring > 1 else 1)
    unit = math.lcm(GRID, split)
    at = partial(_fits, request, choice)
    try:
        if not at(unit) or not at(-(-least // unit) * unit or unit):
            return None
        low, high = 1, 2
        while high * unit < MOST and at(high * unit):
            low, high = high, 2 * high
        while high - low > max(1, low // 128):  # to 1 %, far nearer than the estimate is
            middle = (low + high) // 2
            low, high = (middle, high) if at(middle * unit) else (low, middle)
        return planned(request, choice, low * unit)
    except UserError:
        return None


def _fits(request: Request, choice: Choice, tokens: int) -> bool:
    return planned(request, choice, tokens, timed=False).plan.fits == "yes"


def pareto(found: Sequence[Way]) -> list[Way]:
    """Those ways than which no other is both longer and faster, the longest first."""
    best, fastest = [], 0.0
    for way in sorted(found, key=REACH, reverse=True):
        if way.speed > fastest:
            best.append(way)
            fastest = way.speed
    return best
