"""Megatron-DeepSpeed, corrected, on two ranks of the launch line: its losses are ours on one rank.

The reference is our trainer, which shares no code with it. What was seen of the other layouts is in
docs/upstream.md.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.parallel.losses import GENOME
from tests.parallel.ranks import ROOT, operator_folder, rank_command, rank_environ
from tests.upstream_checkout import upstream_checkout

COMMON = (
    "--num-layers 2 --hidden-size 64 --num-attention-heads 4 --seq-length 64 --device cpu"
    " --use-rotary-position-embeddings --use-flash-attn-best --global-batch-size 4"
    " --micro-batch-size 2 --split 1,1,0 --train-iters 10 --lr 1e-3 --min-lr 1e-4"
    f" --lr-warmup-iters 3 --eval-iters 2 --data-path {GENOME}"
).split()
SPLIT = "--tensor-model-parallel-size 2 --sequence-parallel".split()


def metrics(folder: Path, ranks: int, *flags: str) -> list[dict[str, float]]:
    """metrics.jsonl of a run on `ranks` ranks."""
    words = [*COMMON, "--run-dir", str(folder), *flags]
    env = rank_environ(TORCH_EXTENSIONS_DIR=operator_folder(), LONGSEQ_LOG=str(folder / "log"))
    for command in (
        ["./longseq.sh", "check", "--world-size", str(ranks), *words],
        [*rank_command(ranks), str(ROOT / "pretrain_gpt.py"), *words],
    ):
        done = subprocess.run(
            command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_losses_and_norms_are_ours(tmp_path: Path) -> None:
    checkout = upstream_checkout(tmp_path)
    theirs = metrics(
        tmp_path / "theirs",
        2,
        *SPLIT,
        *("--trainer", "megatron-deepspeed", "--megatron-deepspeed-dir", str(checkout)),
    )
    ours = metrics(tmp_path / "ours", 1)
    assert [step["iteration"] for step in theirs] == list(range(1, 11))
    for key, close in (("lm_loss", 1e-5), ("grad_norm", 1e-4), ("learning_rate", 1e-12)):
        assert [step[key] for step in theirs] == pytest.approx([s[key] for s in ours], abs=close)
    assert theirs[-1]["validation_loss"] == pytest.approx(ours[-1]["validation_loss"], abs=1e-5)
    assert [s["consumed_tokens"] for s in theirs] == [s["consumed_tokens"] for s in ours]
