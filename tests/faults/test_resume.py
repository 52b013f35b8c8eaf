"""A resumed training goes on exactly: in the middle of a curriculum, on other ranks, at another
length.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.parallel.ranks import MPIEXEC, ROOT, rank_environ

COMMON = (
    "--num-layers 2 --hidden-size 64 --num-attention-heads 4 --seq-length 128 --eval-iters 0"
    " --use-rotary-position-embeddings --use-flash-attn-sdpa --lr 1e-3 --hidden-dropout 0"
    " --device cpu --global-batch-size 4 --train-iters 12"
).split()


def train(
    ranks: int, folder: Path, *options: str, limit: int = 0
) -> subprocess.CompletedProcess[str]:
    """A training by the real entry point, in `folder`; no file may have more bytes than `limit`."""
    data = ["--data-path", str(ROOT / "data" / "NC_001416.1.fa")]
    places = ["--run-dir", str(folder), "--save", str(folder / "checkpoints")]
    arguments = [*COMMON, *data, *places, *options]
    env = rank_environ(LONGSEQ_CACHE=str(folder.with_name("cache")))
    check = [sys.executable, "-m", "longseq", "check", "--world-size", str(ranks)]
    subprocess.run([*check, *arguments], env=env, cwd=ROOT, check=True, timeout=120)
    launcher = [MPIEXEC, "-n", str(ranks), "sh", str(ROOT / "ALCF/rank.sh")]
    command = [*launcher, sys.executable, str(ROOT / "pretrain_gpt.py"), *arguments]
    if limit:
        command = ["prlimit", f"--fsize={limit}:unlimited", *command]
    return subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def metrics(folder: Path, name: str) -> dict[int, Any]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return {record["iteration"]: record[name] for record in map(json.loads, lines)}


def test_in_the_middle_of_a_curriculum(tmp_path: Path) -> None:
    grows = ["--curriculum-seq-length", "32", "--curriculum-iters", "8", "--save-interval", "5"]
    assert train(1, tmp_path / "run", *grows).returncode == 0
    checkpoint = tmp_path / "run" / "checkpoints" / "step-5"
    assert train(1, tmp_path / "rest", *grows, "--load", str(checkpoint)).returncode == 0
    for name in ("lm_loss", "sequence_length", "consumed_tokens"):
        whole, rest = (metrics(tmp_path / folder, name) for folder in ("run", "rest"))
        assert rest == {iteration: whole[iteration] for iteration in range(6, 13)}, name
    lengths = metrics(tmp_path / "run", "sequence_length")
    assert lengths[1] == 32
    assert lengths[5] == 64
    assert lengths[8] == 128
    consumed = metrics(tmp_path / "run", "consumed_tokens")
    assert consumed[12] == 4 * sum(lengths.values())
    vocabulary = json.loads((checkpoint / "vocabulary.json").read_text())
    assert vocabulary["tokenizer"] == "nucleotide"
    assert vocabulary["vocab_size"] == len(vocabulary["tokens"]) == 16


def test_on_other_ranks_and_at_another_length(tmp_path: Path) -> None:
    """Two data-parallel ranks, then one rank; then twice the length."""
    assert train(2, tmp_path / "run", "--save-interval", "6").returncode == 0
    load = ["--load", str(tmp_path / "run" / "checkpoints" / "step-6")]
    assert train(1, tmp_path / "rest", *load).returncode == 0
    whole, rest = (metrics(tmp_path / folder, "lm_loss") for folder in ("run", "rest"))
    assert sorted(rest) == list(range(7, 13))
    assert [rest[i] for i in rest] == pytest.approx([whole[i] for i in rest], rel=0, abs=1e-5)
    longer = train(1, tmp_path / "longer", *load, "--seq-length", "256")
    assert longer.returncode == 0
    assert "of 256 tokens from here on, 128 before: some come twice or never" in longer.stdout
    assert "other data" not in longer.stdout
    first = metrics(tmp_path / "longer", "lm_loss")[7]
    assert first == pytest.approx(whole[7], abs=0.1)  # it has learnt already; from new it is 2.8


def test_past_a_flipped_bit_and_on_other_data(tmp_path: Path) -> None:
    """The one before is gone on from in the same folder; what the data were is said."""
    genome = tmp_path / "genome.fa"
    genome.write_bytes((ROOT / "data" / "NC_001416.1.fa").read_bytes())
    options = ["--data-path", str(genome), "--save-interval", "2"]
    assert train(1, tmp_path / "run", *options, "--train-iters", "4").returncode == 0
    folder = tmp_path / "run" / "checkpoints"
    file = folder / "step-4" / "rank-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    genome.write_text(">short\n" + "ACGT" * 1000 + "\n")
    options += ["--load", str(folder), "--save", str(folder), "--train-iters", "5"]
    done = train(1, tmp_path / "second", *options)
    assert done.returncode == 0, done.stderr
    assert f"{folder}/step-4 is damaged: rank-00000.safetensors is not what was" in done.stderr
    assert re.search(
        r"other data: 4,001 tokens in 1 document \([0-9a-f]{8}\); before, 48,503 tokens in 1"
        r" document \([0-9a-f]{8}\): samples are others",
        done.stdout,
    )
    assert sorted(metrics(tmp_path / "second", "lm_loss")) == [3, 4, 5]


def check(*options: str) -> tuple[int, str]:
    """`longseq check` in a dry run."""
    command = [sys.executable, "-m", "longseq", "check", "--dry-run", "--world-size", "1"]
    done = subprocess.run(
        [*command, *COMMON, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def test_what_cannot_be_loaded_is_refused_before_ranks_start(tmp_path: Path) -> None:
    """Nor does a fresh run write among another's checkpoints; nothing is made or changed."""
    assert check("--load", str(tmp_path / "none")) == (
        2,
        f"longseq: --load {tmp_path}/none (LOAD or RESUME): no such folder; leave it out for a"
        " first run\n",
    )
    assert train(1, tmp_path / "run", "--train-iters", "2").returncode == 0
    folder = tmp_path / "run" / "checkpoints"
    load = ["--load", str(folder)]
    assert check(*load)[0] == 0
    code, text = check(*load, "--optimizer", "sgd", "--num-layers", "3")
    assert code == 2
    assert (
        "step-2 (LOAD or RESUME) was written with num_layers=2, optimizer=adam; this run has"
        in text
    )
    code, text = check("--save", str(folder))
    assert code == 2
    assert "holds step-2 of another run: give --load" in text
    (folder / "step-2" / "vocabulary.json").unlink()
    code, text = check(*load)
    assert code == 2
    assert "step-2 is damaged: vocabulary.json is missing" in text
    assert sorted(path.name for path in folder.iterdir()) == ["latest", "owner.json", "step-2"]


def test_a_full_disk_does_not_end_the_training(tmp_path: Path) -> None:
    """A limit on a file's size stands for the disk; the metrics still fit. That the last checkpoint
    is not there is the run's failure, said once.
    """
    full = train(1, tmp_path / "run", "--save-interval", "3", "--train-iters", "6", limit=100_000)
    lines = full.stdout.splitlines()
    warnings = [line for line in lines if "no space left" in line and "checkpoint" in line]
    assert len(warnings) == 1
    assert "step-3 was not written: no space left" in warnings[0]
    assert "there is none yet; training goes on" in warnings[0]
    assert sorted(metrics(tmp_path / "run", "lm_loss")) == list(range(1, 7))
    assert full.returncode == 73
    assert re.search(
        r"^longseq: checkpoint .*step-6 was not written: no space left.*; there is none yet: free"
        r" some$",
        full.stderr,
        re.MULTILINE,
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], "step-6 was not" in summary["reason"]) == ("failed", True)
