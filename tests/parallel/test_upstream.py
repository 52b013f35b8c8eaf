"""Megatron-DeepSpeed, corrected, on two ranks of the launch line: its steps are ours on one rank.

The reference is our trainer, which shares no code with it. What was seen of the other layouts is in
docs/upstream.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from longseq.__main__ import main
from longseq.attention.kernel import kernel
from longseq.config.checks import parse_config
from longseq.data.opening import open_data
from longseq.engine.network.initialize import initialize
from longseq.model import gpt
from longseq.upstream.converting.pickles import read_file
from tests.parallel.losses import GENOME
from tests.parallel.ranks import ROOT, free_port, operator_folder, rank_command, rank_environ
from tests.upstream_checkout import upstream_checkout

COMMON = (
    "--num-layers 2 --hidden-size 64 --num-attention-heads 4 --seq-length 64 --device cpu"
    " --use-rotary-position-embeddings --use-flash-attn-best --global-batch-size 4"
    " --micro-batch-size 2 --split 1,1,0 --train-iters 10 --lr 1e-3 --min-lr 1e-4"
    f" --lr-warmup-iters 3 --lr-decay-iters 10 --eval-iters 2 --data-path {GENOME}"
).split()
SPLIT = "--tensor-model-parallel-size 2 --sequence-parallel".split()


def metrics(
    folder: Path, ranks: int, *flags: str, start: Sequence[str] = ()
) -> list[dict[str, float]]:
    """metrics.jsonl of a run on `ranks` ranks; start: what starts them, mpiexec unless given."""
    words = [*COMMON, "--run-dir", str(folder), *flags]
    env = rank_environ(TORCH_EXTENSIONS_DIR=operator_folder(), LONGSEQ_LOG=str(folder / "log"))
    if "--trainer" in flags:  # writes what DeepSpeed is set to
        assert main(["check", "--world-size", str(ranks), *words]) == 0
    done = subprocess.run(
        [*(start or rank_command(ranks)), str(ROOT / "pretrain_gpt.py"), *words],
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    said = [path.read_text() for path in (*folder.glob("log/failed-*"), *folder.glob("log/*.out"))]
    assert done.returncode == 0, "\n".join([*said, done.stdout, done.stderr])[-8000:]
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return upstream_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ours")


@pytest.fixture(scope="module")
def ours(folder: Path) -> list[dict[str, float]]:
    """Ten iterations on one rank, and a checkpoint kept/step-3."""
    return metrics(folder / "run", 1, "--save", str(folder / "kept"), "--save-interval", "3")


def test_deepspeeds_launcher_starts_ours(tmp_path: Path, ours: list[dict[str, float]]) -> None:
    """As in its examples: it puts --local_rank=N behind the program."""
    runner = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", "2"]
    runner += ["--master_port", free_port()]
    words = ["--train-iters", "4"]
    both = [step["lm_loss"] for step in metrics(tmp_path / "both", 2, *words, start=runner)]
    assert both == pytest.approx([step["lm_loss"] for step in ours[:4]], abs=1e-5)


def test_from_ours_to_theirs_and_back(
    tmp_path: Path, folder: Path, ours: list[dict[str, float]], checkout: Path
) -> None:
    """Three iterations of ours, four of its on two ranks that split the sequence, three of ours:
    each as if ours had gone on.
    """
    theirs = metrics(
        tmp_path / "theirs",
        2,
        *SPLIT,
        *("--trainer", "megatron-deepspeed", "--megatron-deepspeed-dir", str(checkout)),
        *("--load", str(folder / "kept/step-3"), "--train-iters", "7"),
        *("--save", str(tmp_path / "theirs/checkpoints")),
    )
    saved = tmp_path / "theirs/checkpoints/global_step7/mp_rank_00_model_states.pt"
    assert read_file(saved)["args"].longseq_corrected is True
    assert main(["convert", str(tmp_path / "theirs"), "--output", str(tmp_path / "back")]) == 0
    back = metrics(tmp_path / "again", 1, "--load", str(tmp_path / "back"))
    found = theirs + back
    assert [step["iteration"] for step in found] == list(range(4, 11))
    assert [s["consumed_tokens"] for s in found] == [s["consumed_tokens"] for s in ours[3:]]
    for key, close in (("lm_loss", 1e-5), ("grad_norm", 1e-4), ("learning_rate", 1e-12)):
        assert [step[key] for step in found] == pytest.approx([s[key] for s in ours[3:]], abs=close)
    assert back[-1]["validation_loss"] == pytest.approx(ours[-1]["validation_loss"], abs=1e-5)


def test_without_biases_its_losses_are_ours(tmp_path: Path, checkout: Path) -> None:
    """GELU as well: as shipped it takes another one where it has no bias to fuse it with."""
    words = (
        "--disable-bias-linear --init-method-std 0.2 --train-iters 3 --lr-warmup-iters 1".split()
    )
    theirs = ["--trainer", "megatron-deepspeed", "--megatron-deepspeed-dir", str(checkout)]
    ours, its = (
        [step["lm_loss"] for step in metrics(tmp_path / name, 1, *words, *more)]
        for name, more in (("ours", []), ("its", theirs))
    )
    assert its == pytest.approx(ours, abs=1e-5)


def loss_with_its_faults(checkpoint: Path, consumed: int) -> float:
    """Of the next four samples, by our network with what is wrong in the other put into it: rows
    that pad the vocabulary take part in the softmax, and angles are cosines of what they should be.
    """
    config = parse_config(COMMON, 1)
    data = open_data(config.data, config.network.seq_length, config.training.seed)
    assert data.train is not None
    with torch.device("meta"):
        model = gpt.GPT(config.network, data.vocab_size, kernel("sdpa"), 1)
    initialize(model, config.network, 1, torch.device("cpu"))
    parameters = dict(model.named_parameters())
    for file in checkpoint.rglob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # it is no dictionary
                kind, _, rest = name.partition("/")
                if kind == "weight":
                    parameter = parameters[rest.split("@")[0]]
                    parameter.data.copy_(tensors.get_tensor(name).view(parameter.shape))
    model.tokens.weight.data[data.vocab_size :] = 0
    batch = data.train.batch(list(range(consumed, consumed + 4)), [(0, 64)], 64)
    with torch.no_grad():
        hidden = model.hidden(batch.tokens, batch.positions[:1])
        logits = hidden @ model.tokens.weight.t()
    return float(F.cross_entropy(logits.flatten(0, 1), batch.labels.t().flatten()))


def test_as_shipped_its_faults_make_the_difference(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    ours: list[dict[str, float]],
    checkout: Path,
) -> None:
    """From the same weights, on one rank: what is wrong there is all that sets it apart."""
    shipped = metrics(
        *(tmp_path / "shipped", 1, "--trainer", "megatron-deepspeed", "--as-shipped"),
        *("--megatron-deepspeed-dir", str(checkout), "--load", str(folder / "kept/step-3")),
        *("--train-iters", "4"),
    )

    def shipped_table(positions: torch.Tensor, size: int, theta: float) -> tuple[torch.Tensor, ...]:
        steps = torch.arange(0, size, 2, dtype=torch.float64) / size
        angles = (positions.t().double()[..., None, None] * theta**-steps).cos()
        return angles.cos().float(), angles.sin().float()

    monkeypatch.setattr(gpt, "rotary_table", shipped_table)
    wanted = loss_with_its_faults(folder / "kept/step-3", 12)
    assert shipped[0]["lm_loss"] == pytest.approx(wanted, abs=1e-5)
    assert abs(shipped[0]["lm_loss"] - ours[3]["lm_loss"]) > 0.1
