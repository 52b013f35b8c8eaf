"""Megatron-DeepSpeed, corrected, on two ranks of the launch line: its steps are ours on one rank.

The reference is our trainer, which shares no code with it. What was seen of the other layouts is in
docs/upstream.md.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from longseq.__main__ import main
from tests.parallel.losses import GENOME
from tests.parallel.ranks import ROOT, operator_folder, rank_command, rank_environ
from tests.upstream_checkout import upstream_checkout

COMMON = (
    "--num-layers 2 --hidden-size 64 --num-attention-heads 4 --seq-length 64 --device cpu"
    " --use-rotary-position-embeddings --use-flash-attn-best --global-batch-size 4"
    " --micro-batch-size 2 --split 1,1,0 --train-iters 10 --lr 1e-3 --min-lr 1e-4"
    f" --lr-warmup-iters 3 --lr-decay-iters 10 --eval-iters 2 --data-path {GENOME}"
).split()
SPLIT = "--tensor-model-parallel-size 2 --sequence-parallel".split()


def metrics(folder: Path, ranks: int, *flags: str) -> list[dict[str, float]]:
    """metrics.jsonl of a run on `ranks` ranks."""
    words = [*COMMON, "--run-dir", str(folder), *flags]
    env = rank_environ(TORCH_EXTENSIONS_DIR=operator_folder(), LONGSEQ_LOG=str(folder / "log"))
    if "--trainer" in flags:  # writes what DeepSpeed is set to
        assert main(["check", "--world-size", str(ranks), *words]) == 0
    done = subprocess.run(
        [*rank_command(ranks), str(ROOT / "pretrain_gpt.py"), *words],
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_from_ours_to_theirs_and_back(tmp_path: Path) -> None:
    """Three iterations of ours, four of its on two ranks that split the sequence, three of ours:
    each as if ours had gone on.
    """
    checkout = upstream_checkout(tmp_path)
    ours = metrics(tmp_path / "ours", 1, "--save", str(tmp_path / "kept"), "--save-interval", "3")
    theirs = metrics(
        tmp_path / "theirs",
        2,
        *SPLIT,
        *("--trainer", "megatron-deepspeed", "--megatron-deepspeed-dir", str(checkout)),
        *("--load", str(tmp_path / "kept/step-3"), "--train-iters", "7"),
        *("--save", str(tmp_path / "theirs/checkpoints")),
    )
    assert main(["convert", str(tmp_path / "theirs"), "--output", str(tmp_path / "back")]) == 0
    back = metrics(tmp_path / "again", 1, "--load", str(tmp_path / "back"))
    found = theirs + back
    assert [step["iteration"] for step in found] == list(range(4, 11))
    assert [s["consumed_tokens"] for s in found] == [s["consumed_tokens"] for s in ours[3:]]
    for key, close in (("lm_loss", 1e-5), ("grad_norm", 1e-4), ("learning_rate", 1e-12)):
        assert [step[key] for step in found] == pytest.approx([s[key] for s in ours[3:]], abs=close)
    assert back[-1]["validation_loss"] == pytest.approx(ours[-1]["validation_loss"], abs=1e-5)
