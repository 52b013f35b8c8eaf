"""A resumed training goes on: in the middle of a curriculum exactly, at another length, on other
data. On other ranks: test_checkpoint_layouts.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.parallel.ranks import MPIEXEC, ROOT, rank_command, rank_environ

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


GROWS = ["--curriculum-seq-length", "32", "--curriculum-iters", "8", "--save-interval", "5"]


class Made(NamedTuple):
    """What trainings by the real loop left, in one process; and what they said."""

    folder: Path
    stdout: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A whole training and the rest of it, one at another length, one of two iterations."""
    folder = tmp_path_factory.mktemp("made")
    genome = folder / "genome.fa"
    genome.write_bytes((ROOT / "data" / "NC_001416.1.fa").read_bytes())
    plain = ["--save-interval", "3", "--train-iters", "7"]
    jobs = {
        "run": GROWS,
        "rest": [*GROWS, "--load", f"{folder}/run/checkpoints/step-5"],
        "plain": plain,
        "longer": [
            *(*plain, "--load", f"{folder}/plain/checkpoints/step-6", "--seq-length", "256")
        ],
        "short": ["--train-iters", "2"],
    }
    flags = [
        [
            *(*COMMON, "--data-path", str(genome), "--run-dir", str(folder / name)),
            *("--save", str(folder / name / "checkpoints"), *options),
        ]
        for name, options in jobs.items()
    ]
    done = subprocess.run(
        [*rank_command(1), str(Path(__file__).with_name("resume_worker.py")), json.dumps(flags)],
        env=rank_environ(LONGSEQ_CACHE=str(folder / "cache")),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return Made(folder, done.stdout)


def test_in_the_middle_of_a_curriculum(made: Made) -> None:
    for name in ("lm_loss", "sequence_length", "consumed_tokens"):
        whole, rest = (metrics(made.folder / folder, name) for folder in ("run", "rest"))
        assert rest == {iteration: whole[iteration] for iteration in range(6, 13)}, name
    lengths = metrics(made.folder / "run", "sequence_length")
    assert lengths[1] == 32
    assert lengths[5] == 64
    assert lengths[8] == 128
    consumed = metrics(made.folder / "run", "consumed_tokens")
    assert consumed[12] == 4 * sum(lengths.values())
    checkpoint = made.folder / "run" / "checkpoints" / "step-5"
    vocabulary = json.loads((checkpoint / "vocabulary.json").read_text())
    assert vocabulary["tokenizer"] == "nucleotide"
    assert vocabulary["vocab_size"] == len(vocabulary["tokens"]) == 16


def test_at_another_length(made: Made) -> None:
    assert "of 256 tokens from here on, 128 before: some come twice or never" in made.stdout
    assert "other data" not in made.stdout
    whole, longer = (metrics(made.folder / name, "lm_loss") for name in ("plain", "longer"))
    assert list(longer) == [7]
    assert longer[7] == pytest.approx(whole[7], abs=0.1)  # from new it is 2.8,
    assert whole[7] < 2.5  # and it has learnt already


def test_past_a_flipped_bit_and_on_other_data(made: Made, tmp_path: Path) -> None:
    """The one before is gone on from in the same folder; what the data were is said."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(made.folder / "plain" / "checkpoints", folder)
    file = folder / "step-7" / "rank-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    genome = tmp_path / "genome.fa"
    genome.write_text(">short\n" + "ACGT" * 1000 + "\n")
    options = ["--data-path", str(genome), "--save-interval", "3", "--train-iters", "8"]
    options += ["--load", str(folder), "--save", str(folder)]
    done = train(1, tmp_path / "second", *options)
    assert done.returncode == 0, done.stderr
    assert f"{folder}/step-7 is damaged: rank-00000.safetensors is not what was" in done.stderr
    assert re.search(
        r"other data: 4,001 tokens in 1 document \([0-9a-f]{8}\); before, 48,503 tokens in 1"
        r" document \([0-9a-f]{8}\): samples are others",
        done.stdout,
    )
    assert sorted(metrics(tmp_path / "second", "lm_loss")) == [7, 8]


def check(*options: str) -> tuple[int, str]:
    """`longseq check` in a dry run."""
    command = [sys.executable, "-m", "longseq", "check", "--dry-run", "--world-size", "1"]
    done = subprocess.run(
        [*command, *COMMON, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def test_what_cannot_be_loaded_is_refused_before_ranks_start(made: Made, tmp_path: Path) -> None:
    """Nor does a fresh run write among another's checkpoints; nothing is made or changed."""
    assert check("--load", str(tmp_path / "none")) == (
        2,
        f"longseq: --load {tmp_path}/none (LOAD or RESUME): no such folder; leave it out for a"
        " first run\n",
    )
    folder = tmp_path / "checkpoints"
    shutil.copytree(made.folder / "short" / "checkpoints", folder)
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
