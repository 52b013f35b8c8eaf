"""Every layout, kernel, ZeRO stage and recomputation gives the numbers of one plain rank.

fp32, 6 steps of the real genome, 2 layers of width 64 (4 where only some of them are recomputed):
losses to 1e-5, gradient norms to 1e-4. `python -m tests.parallel.matrix` takes more of both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.parallel.ranks import run_ranks

STEPS = 6
ROTARY = ["--use-rotary-position-embeddings"]
TWO = ["--num-layers", "2"]
SDPA = ["--use-flash-attn-sdpa"]
TP2 = ["--tensor-model-parallel-size", "2"]
SP = ["--sequence-parallel"]
ULYSSES2 = ["--ds-sequence-parallel-size", "2"]
RING2 = ["--context-parallel-size", "2"]
RECOMPUTE = ["--checkpoint-activations"]
SELECTIVE = ["--recompute-granularity", "selective"]
TILED = ["--recompute-granularity", "full", "--tile-size", "48"]  # the last tile is smaller
OUTSIDE = ["--recompute-granularity", "outside-attention", "--tile-size", "48"]
POINTWISE = ["--recompute-granularity", "pointwise"]
CHUNKS = ["--ds-sequence-parallel-fpdt", "--ds-sequence-parallel-fpdt-chunk-size", "40"]
EVERY2 = ["--recompute-num-layers", "2"]
BLOCK2 = [*EVERY2, "--recompute-method", "block"]
VARIANT = [
    *("--normalization", "rmsnorm", "--swiglu", "--num-key-value-heads", "2", "--rotary-percent"),
    *("0.5", "--untie-embeddings-and-output-weights", "--disable-bias-linear"),
]
# At 128 tokens a sample, a weight on test makes the training split end inside samples; documents
# come from the wrap of the genome, which a short split brings into every few samples.
DOCUMENTS = [
    "--reset-attention-mask",
    "--reset-position-ids",
    "--eod-mask-loss",
    "--split",
    "1,1,300",
]


def zero(stage: int) -> list[str]:
    return ["--zero-stage", str(stage)]


# Reference (on one rank) → cases that must equal it, by number of ranks.
FAMILIES: dict[str, tuple[list[str], dict[int, dict[str, list[str]]]]] = {
    "four layers": (
        ROTARY,
        {
            1: {
                "tiled, every second": SDPA + TILED + EVERY2,
                "outside, first two, zero 2": SDPA + OUTSIDE + BLOCK2 + zero(2),
            },
        },
    ),
    "rotary": (
        ROTARY + TWO,
        {
            1: {
                "sdpa": SDPA,
                "zero 1": SDPA + zero(1),
                "zero 2": SDPA + zero(2),
                "zero 3": SDPA + zero(3),
                "recomputed": SDPA + RECOMPUTE,
                "core, recomputed, zero 1": RECOMPUTE + zero(1),
                "core, selective": SELECTIVE,
                "tiled": SDPA + TILED,
                "tiled, zero 3": SDPA + TILED + zero(3),
                "outside": SDPA + OUTSIDE,
                "outside, core": OUTSIDE,
                "chunks": SDPA + CHUNKS,
                "chunks, outside": SDPA + CHUNKS + OUTSIDE,
                "chunks, selective": SDPA + CHUNKS + SELECTIVE,
                "accumulated, pointwise": [*SDPA, *POINTWISE, "--micro-batch-size", "2"],
            },
            2: {
                "tp": TP2,
                "tp, sdpa, pointwise": TP2 + SDPA + POINTWISE,
                "tp, split": TP2 + SP + SDPA,
                "tp, split, core": TP2 + SP,
                "tp, split, zero 1, pointwise": TP2 + SP + SDPA + zero(1) + POINTWISE,
                "tp, split, zero 3": TP2 + SP + SDPA + zero(3),
                "tp, split, recomputed": TP2 + SP + SDPA + RECOMPUTE,
                "tp, split, outside": TP2 + SP + SDPA + OUTSIDE,
                "tp, tiled": TP2 + SDPA + TILED,
                "tp, recomputed, zero 1": TP2 + SDPA + RECOMPUTE + zero(1),
                "ulysses": ULYSSES2 + SDPA,
                "ulysses, core, zero 2": ULYSSES2 + zero(2),
                "ulysses, zero 3, pointwise": [*ULYSSES2, *SDPA, *zero(3), *POINTWISE],
                "ulysses, outside, zero 1": ULYSSES2 + SDPA + OUTSIDE + zero(1),
                "ulysses, tiled, zero 3": ULYSSES2 + SDPA + TILED + zero(3),
                "ring": RING2 + SDPA,
                "ring, outside": RING2 + SDPA + OUTSIDE,
                "ring, recomputed, zero 1": RING2 + SDPA + RECOMPUTE + zero(1),
                "dp": SDPA,
                "dp, zero 1": SDPA + zero(1),
                "dp, zero 2, pointwise": SDPA + zero(2) + POINTWISE,
                "dp, zero 3, recomputed": SDPA + zero(3) + RECOMPUTE,
            },
            4: {
                "tp, split x dp, zero 1": TP2 + SP + SDPA + zero(1),
                "tp, split x ulysses": TP2 + SP + SDPA + ULYSSES2,
                "ulysses x ring": ULYSSES2 + RING2 + SDPA,
                "tp, split x ring": TP2 + SP + SDPA + RING2,
                "ulysses x dp": ULYSSES2 + SDPA,
                "ring x dp, zero 1": RING2 + SDPA + zero(1),
                "ring 4": ["--context-parallel-size", "4", *SDPA],
                "ulysses 4": ["--ds-sequence-parallel-size", "4", *SDPA],
            },
        },
    ),
    "learned positions": (
        TWO,
        {
            1: {"sdpa": SDPA, "zero 3": SDPA + zero(3)},
            2: {
                "tp": TP2 + SDPA,
                "tp, split": TP2 + SP + SDPA,
                "ulysses, zero 3": ULYSSES2 + SDPA + zero(3),
                "ring": RING2 + SDPA,
            },
        },
    ),
    "variant": (
        ROTARY + TWO + VARIANT,
        {
            1: {"sdpa": SDPA, "outside": SDPA + OUTSIDE},
            2: {
                "tp, pointwise": TP2 + SDPA + POINTWISE,
                "tp, split, recomputed": TP2 + SP + SDPA + RECOMPUTE,
            },
        },
    ),
    "documents": (
        ROTARY + TWO + DOCUMENTS,
        {
            1: {"sdpa": SDPA, "outside, chunks": SDPA + OUTSIDE + CHUNKS},
            2: {
                "tp, split": TP2 + SP + SDPA,
                "ring, outside": RING2 + SDPA + OUTSIDE,
                "dp": SDPA,
                "tp, core": TP2,
                "ulysses": ULYSSES2 + SDPA,
                "ring": RING2 + SDPA,
            },
            4: {"ulysses x ring": ULYSSES2 + RING2 + SDPA},
        },
    ),
    "documents in many chunks": (
        [
            *(*ROTARY, *DOCUMENTS, "--seq-length", "1024", "--num-layers", "1"),
            *("--num-attention-heads", "2"),  # scores of the reference are most of its time
        ],
        {2: {"ring": RING2 + SDPA, "ring, outside": RING2 + SDPA + OUTSIDE}},
    ),
    "curriculum": (
        [*ROTARY, *TWO, "--curriculum-seq-length", "32", "--curriculum-iters", "4"],
        {2: {"ulysses": ULYSSES2 + SDPA, "ring": RING2 + SDPA, "tp, split": TP2 + SP + SDPA}},
    ),
    "uneven heads": (
        [*ROTARY, *TWO, "--num-attention-heads", "5", "--hidden-size", "40"],
        {2: {"ulysses": ULYSSES2 + SDPA}, 4: {"ulysses 4": ["--ds-sequence-parallel-size", "4"]}},
    ),
    "six heads on three": (
        [
            *(*ROTARY, *TWO, "--num-attention-heads", "6", "--num-key-value-heads", "3"),
            *("--hidden-size", "48"),
        ],
        {
            2: {
                "ulysses": ULYSSES2 + SDPA,
                "ulysses, outside": ULYSSES2 + SDPA + OUTSIDE,
                "ring": RING2 + SDPA,
            },
            4: {"ulysses 4": ["--ds-sequence-parallel-size", "4", *SDPA]},
        },
    ),
    "one key-value head": (
        [*ROTARY, *TWO, "--num-key-value-heads", "1"],
        {
            2: {"ulysses": ULYSSES2 + SDPA, "ulysses, chunks": ULYSSES2 + SDPA + CHUNKS},
            4: {"ulysses x ring": ULYSSES2 + RING2 + SDPA},
        },
    ),
    "sgd without clipping": (
        [*ROTARY, *TWO, "--optimizer", "sgd", "--clip-grad", "0", "--lr", "0.01"],
        {
            1: {"zero 3": SDPA + zero(3)},
            2: {"tp, split": TP2 + SP + SDPA, "dp, zero 2": SDPA + zero(2)},
        },
    ),
}


def all_flags(ranks: int) -> dict[str, list[str]]:
    """Name → flags of everything that runs on `ranks` ranks; references on one."""
    result = {}
    for family, (base, cases) in FAMILIES.items():
        if ranks == 1:
            result[family] = base
        for name, flags in cases.get(ranks, {}).items():
            result[f"{family}/{name}"] = base + flags
    return result


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:
    cache = str(tmp_path_factory.mktemp("cache"))
    program = Path(__file__).with_name("losses.py")
    return {
        ranks: run_ranks(
            ranks, program, json.dumps(all_flags(ranks)), str(STEPS), LONGSEQ_CACHE=cache
        )
        for ranks in (1, 2, 4)
    }


CASES = [
    (family, ranks, name)
    for family, (_, by_ranks) in FAMILIES.items()
    for ranks, cases in by_ranks.items()
    for name in cases
]


@pytest.mark.parametrize(("family", "ranks", "name"), CASES)
def test_equals_one_rank(family: str, ranks: int, name: str, results: dict[int, Any]) -> None:
    expected, found = results[1][family], results[ranks][f"{family}/{name}"]
    assert found["losses"] == pytest.approx(expected["losses"], rel=0, abs=1e-5)
    assert found["norms"] == pytest.approx(expected["norms"], rel=1e-4)


def test_the_losses_fall(results: dict[int, Any]) -> None:
    for family in FAMILIES:
        losses = results[1][family]["losses"]
        assert losses[-1] < losses[0], family
