"""Every product of layout, heads, ZeRO stage, accumulation, documents and policy against one rank.

    python -m tests.parallel.matrix [--sample 40] [--seed 1]     from the repository's folder

The suite runs a covering set (test_numbers.py); this is all of it, hours of it on two cores, or a
random sample. Prints the largest differences of losses and of gradient norms over 10 steps for each
case, or the sentence of the refusal; exit code 1 if a difference is above 1e-5 or 1e-4.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sys
import tempfile
from pathlib import Path

from longseq.config.checks import parse_config
from longseq.errors import UserError
from tests.parallel.losses import COMMON
from tests.parallel.ranks import run_ranks

PROGRAM = Path(__file__).with_name("losses.py")
ROTARY = ["--use-rotary-position-embeddings", "--use-flash-attn-sdpa"]
HEADS = {
    f"{heads}/{groups}": [
        *("--num-attention-heads", str(heads), "--num-key-value-heads", str(groups)),
        *("--hidden-size", "256" if heads == 8 else "240"),
    ]
    for heads, groups in ((8, 8), (8, 2), (6, 3), (5, 5), (8, 1))
}
TP = ["--tensor-model-parallel-size", "2"]
SP = [*TP, "--sequence-parallel"]
ULYSSES, RING = "--ds-sequence-parallel-size", "--context-parallel-size"
LAYOUTS: dict[int, dict[str, list[str]]] = {
    1: {"1": []},
    2: {"tp2": TP, "tp2 split": SP, "ulysses2": [ULYSSES, "2"], "ring2": [RING, "2"], "dp2": []},
    4: {
        "tp2 x ulysses2": [*SP, ULYSSES, "2"],
        "ulysses2 x ring2": [ULYSSES, "2", RING, "2"],
        "tp2 x ring2": [*SP, RING, "2"],
        "ulysses2 x dp2": [ULYSSES, "2"],
        "ring2 x dp2": [RING, "2"],
        "ring4": [RING, "4"],
        "ulysses4": [ULYSSES, "4"],
    },
}
OPTIMIZERS = {"adam": [], "sgd": ["--optimizer", "sgd", "--clip-grad", "0", "--lr", "0.01"]}
DOCUMENTS = ["--reset-attention-mask", "--reset-position-ids", "--split", "1,1,300"]
TILE = ["--tile-size", "24"]
POLICIES = {
    "kept": ["--recompute-granularity", "none"],
    "full": ["--recompute-granularity", "full", *TILE],
    "every 2nd": ["--recompute-granularity", "full", *TILE, "--recompute-num-layers", "2"],
    "pointwise": ["--recompute-granularity", "pointwise"],
    "outside": ["--recompute-granularity", "outside-attention", *TILE],
    "chunks": ["--ds-sequence-parallel-fpdt", "--ds-sequence-parallel-fpdt-chunk-size", "40"],
}
Case = tuple[int, str, str, str, str, int, int, bool]


def cases() -> list[Case]:
    """(ranks, layout, heads, optimizer, policy, ZeRO stage, global batch, documents)."""
    layouts = [(ranks, name) for ranks, named in LAYOUTS.items() for name in named]
    others = (HEADS, OPTIMIZERS, POLICIES, range(4), (4, 8), (False, True))
    return [(*layout, *rest) for layout in layouts for rest in itertools.product(*others)]


def base_flags(case: Case) -> list[str]:
    """What the reference on one rank has as well."""
    _, _, heads, optimizer, _, _, batch, documents = case
    flags = [*ROTARY, *HEADS[heads], *OPTIMIZERS[optimizer], "--global-batch-size", str(batch)]
    return flags + (DOCUMENTS if documents else [])


def flags_of(case: Case) -> list[str]:
    ranks, layout, _, _, policy, stage, _, _ = case
    own = [*LAYOUTS[ranks][layout], *POLICIES[policy], "--zero-stage", str(stage)]
    return [*base_flags(case), *own]


def compare(case: Case, cache: str) -> tuple[float, float]:
    """Largest difference of a loss, and relative one of a norm, from one rank that keeps all."""
    both = []
    for ranks, flags in ((1, base_flags(case)), (case[0], flags_of(case))):
        both.append(run_ranks(ranks, PROGRAM, json.dumps({"": flags}), LONGSEQ_CACHE=cache)[""])
    one, other = both
    loss = max(abs(a - b) for a, b in zip(one["losses"], other["losses"], strict=True))
    norm = max(abs(b / a - 1) for a, b in zip(one["norms"], other["norms"], strict=True))
    return loss, norm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    chosen = cases()
    if args.sample:
        chosen = random.Random(args.seed).sample(chosen, args.sample)
    wrong, worst = 0, (0.0, 0.0)
    with tempfile.TemporaryDirectory() as cache:
        for number, case in enumerate(chosen, 1):
            ranks, layout, heads, optimizer, policy, stage, batch, documents = case
            title = f"{layout}, {heads}, {optimizer}, {policy}, stage {stage}, batch {batch}"
            title += ", documents" if documents else ""
            try:
                parse_config(COMMON + flags_of(case), ranks)
            except UserError as error:
                print(f"{number}/{len(chosen)} {title}: refused: {error}", flush=True)
                continue
            loss, norm = compare(case, cache)
            bad = loss > 1e-5 or norm > 1e-4
            wrong += bad
            worst = max(worst[0], loss), max(worst[1], norm)
            mark = "  WRONG" if bad else ""
            print(f"{number}/{len(chosen)} {title}: {loss:.1e} {norm:.1e}{mark}", flush=True)
    print(f"{wrong} wrong of {len(chosen)}; largest differences:")
    print(f"{worst[0]:.1e}, {worst[1]:.1e}")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
