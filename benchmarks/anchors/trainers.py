"""Both trainers, same flags and data, one after the other: losses, seconds of a step, memory.

    MEGATRON_DEEPSPEED_DIR=… python -m benchmarks trainers [--layouts one split stages]

Ours runs on one rank, Megatron-DeepSpeed (docs/upstream.md) on one or on two in each layout; for
the times ours runs in the same layout too, where it has that. Largest differences of the loss and
of the gradient norm are from ours on one rank, which shares no code with it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from benchmarks.start import SPLIT, ULYSSES
from benchmarks.table import Table
from tests.parallel.losses import GENOME
from tests.parallel.ranks import ROOT, rank_command, rank_environ

LAYOUTS: dict[str, tuple[int, tuple[str, ...]]] = {
    "one": (1, ()),
    "tensor": (2, SPLIT[:2]),
    "split": (2, SPLIT),
    "ulysses": (2, ULYSSES),
    "stages": (2, ("--pipeline-model-parallel-size", "2")),
}
USUAL = (
    "--num-layers 4 --hidden-size 256 --num-attention-heads 8 --use-rotary-position-embeddings"
    " --use-flash-attn-best --micro-batch-size 2 --global-batch-size 2 --device cpu --lr 5e-4"
    f" --eval-iters 0 --data-path {GENOME}"
)
Steps = list[dict[str, Any]]


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--steps", type=int, default=10)


def steps_of(options: Namespace, layout: str, *trainer: str) -> Steps:
    """The records of a run."""
    ranks, flags = LAYOUTS[layout]
    length = ["--seq-length", str(options.tokens), "--train-iters", str(options.steps)]
    words = [*USUAL.split(), *length, *flags, *trainer]
    with tempfile.TemporaryDirectory() as folder:
        words += ["--run-dir", f"{folder}/run"]
        check = [sys.executable, "-m", "longseq", "check", "--world-size", str(ranks), *words]
        train = [*rank_command(ranks), str(ROOT / "pretrain_gpt.py"), *words]
        for command in (check, train):
            env = rank_environ(LONGSEQ_LOG=f"{folder}/run/log")
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
        text = Path(folder, "run", "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def main(options: Namespace) -> None:
    checkout = os.environ["MEGATRON_DEEPSPEED_DIR"]
    theirs = ("--trainer", "megatron-deepspeed", "--megatron-deepspeed-dir", checkout)
    table = Table(
        ("layout", "<8"),
        ("loss differs", ".1e"),
        ("norm differs", ".1e"),
        ("s a step", ".3f"),
        ("ours", ".3f"),
        ("GiB a rank", ".2f"),
        ("ours", ".2f"),
    )
    alone = steps_of(options, "one")
    for layout in options.layouts:
        found = steps_of(options, layout, *theirs)
        beside = alone if layout == "one" else None
        if layout not in ("one", "stages"):
            beside = steps_of(options, layout)
        table.row(
            layout,
            largest(found, alone, "lm_loss"),
            largest(found, alone, "grad_norm"),
            seconds(found),
            seconds(beside) if beside else None,
            found[-1]["peak_memory_gib"],
            beside[-1]["peak_memory_gib"] if beside else None,
        )


def largest(some: Steps, others: Steps, key: str) -> float:
    return max(abs(a[key] - b[key]) for a, b in zip(some, others, strict=True))


def seconds(steps: Steps) -> float:
    """Of a step, but for the first one."""
    return statistics.median(step["iteration_time"] for step in steps[1:])
