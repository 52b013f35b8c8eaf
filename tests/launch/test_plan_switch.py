"""PLAN=1 says what a run needs and starts nothing; a job that needs far too much is refused."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.shell import ROOT, clean_env

POLARIS = {"MACHINE": "polaris", "PROJECT": "x", "QUEUE": "debug-scaling", "SEQ_LEN": "128k"}
LINE = {"MODEL_SIZE_KEY": "GPT25B", "NGPUS": "32", "MPSIZE": "32"}  # as plan --suggest prints it
LARGE = POLARIS | {"MODEL_SIZE_KEY": "GPT25B", "NHOSTS": "8"}


def call(folder: Path, script: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    given = clean_env(folder, {"OUTPUT_DIR": str(folder / "runs"), **env})
    command = ["/bin/bash", str(ROOT / "ALCF" / script), *words]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("env", "ranks"),
    [(LARGE, 32), ({"MACHINE": "polaris", "SEQ_LEN": "128k"} | LINE, 32), ({"SEQ_LEN": "4k"}, 2)],
)
def test_plan_is_printed_and_nothing_is_touched(
    tmp_path: Path, env: dict[str, str], ranks: int
) -> None:
    """On a login node of Polaris, also where no project or queue is named, and on this CPU."""
    done = call(tmp_path, "train-gpt3.sh", PLAN="1", **env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fits: ")
    assert f"{ranks} " in done.stdout.split("layout")[1].split("=")[0]
    assert not (tmp_path / "runs").exists()


def test_a_layout_is_suggested_whatever_batch_this_one_has(tmp_path: Path) -> None:
    """Neither project nor queue is needed; data parallel ranks are not refused for a batch."""
    few = {"MACHINE": "polaris", "SEQ_LEN": "32k", "MODEL_SIZE_KEY": "GPT13B", "NHOSTS": "2"}
    free = call(tmp_path, "train-gpt3.sh", PLAN="suggest", **few)
    assert free.returncode == 0, free.stderr
    assert free.stdout.startswith("fits: ")
    assert "SEQ_LEN=32768" in free.stdout
    assert "\nMODEL_SIZE_KEY=GPT13B NHOSTS=2 OUTPUT_DIR=" in free.stdout
    assert "--global-batch-size" not in free.stdout
    kept = call(tmp_path, "train-gpt3.sh", PLAN="suggest", GLOBAL_BATCH="1", **few)
    assert "--global-batch-size 1 is not a multiple" in kept.stdout
    none = call(tmp_path, "train-gpt3.sh", PLAN="longest")
    assert none.returncode == 2
    assert none.stderr.splitlines()[-1].startswith("longseq: PLAN=longest: ways are sought on GPUs")


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("--num-layers 12 --hidden-size 768 --num-attention-heads 16", "GPT125M"),
        ("--num-layers 3", "GPT2_7B"),
    ],
)
def test_the_suggested_line_is_whole(tmp_path: Path, words: str, key: str) -> None:
    """The network that was planned, and each setting, under its own name and quoted."""
    few = {"MACHINE": "polaris", "SEQ_LEN": "4k", "NGPUS": "2", "SPSIZE": "2", "WB_PROJECT": "a b"}
    old = {"USE_FLASH_ATTN2": "1", "QUEUE": "debug", "WANDB_API_KEY": "secret"}
    done = call(tmp_path, "train-gpt3.sh", "--", *words.split(), PLAN="suggest", **few, **old)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "train-gpt3.sh" in line]
    typed = [f"MODEL_SIZE_KEY={key}", "USE_FLASH_ATTN=v2", f"OUTPUT_DIR={tmp_path}/runs"]
    typed += ["WB_PROJECT=a b", "MACHINE=polaris", "QUEUE=debug", "NGPUS=2"]
    assert shlex.split(line)[:7] == typed
    assert sum("SPSIZE=" in word for word in shlex.split(line)) == 1
    assert "secret" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith(
        "Behind -- of that line goes what this call has there"
    )


def test_the_suggested_line_goes_with_the_run_whose_network_was_planned(
    bash: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Where that network is no row of the table."""
    script = """source "$LONGSEQ_ROOT/ALCF/plan.sh"; source "$LONGSEQ_ROOT/ALCF/args.sh"
        source "$LONGSEQ_ROOT/ALCF/launch.sh"; LOAD=runs/x LONGSEQ_NAMED=custom
        declare -A LONGSEQ_VALUE=([LOAD]=runs/x/checkpoints [MODEL_SIZE_KEY]=GPT13B)
        LONGSEQ_VARIABLES=("LOAD|path||||x") MODEL_SIZE_KEY=
        longseq_typed && printf %s "$REPLY" """
    assert bash(script).stdout == "LOAD=runs/x"


def test_a_layout_is_sought_where_the_default_one_cannot_be(tmp_path: Path) -> None:
    """16 heads do not divide by the 12 ranks; what no layout mends is refused all the same."""
    small = {"MACHINE": "polaris", "SEQ_LEN": "4k", "MODEL_SIZE_KEY": "GPT125M", "NHOSTS": "3"}
    done = call(tmp_path, "train-gpt3.sh", PLAN="suggest", **small)
    assert done.returncode == 0, done.stderr
    assert " NGPUS=12 MPSIZE=" in done.stdout
    wrong = call(tmp_path, "train-gpt3.sh", PLAN="suggest", MIN_LR="1", **small)
    assert wrong.returncode == 2
    assert (
        wrong.stderr.splitlines()[-1]
        == "longseq: --min-lr 1 (MIN_LR) is above --lr 0.00015 (LR): lower it"
    )
    asked = call(tmp_path, "train-gpt3.sh", PLAN="1", **small)
    assert "16 does not divide by --tensor-model-parallel-size 12" in asked.stderr


def test_a_submission_is_looked_at(tmp_path: Path) -> None:
    """29 billion parameters: 16 bytes of each are 1.7 times what 8 GPUs of 40 GB have."""
    assert "longseq: fits: " in call(tmp_path, "submit.sh", "--dry-run", **LARGE).stderr
    small = LARGE | {"NHOSTS": "2"}
    done = call(tmp_path, "submit.sh", "--dry-run", **small)
    assert done.returncode == 2
    assert "of 39.4 GiB a GPU by the plan: does not fit" in done.stderr.splitlines()[-1]
    assert call(tmp_path, "submit.sh", "--dry-run", PLAN="0", **small).returncode == 0
