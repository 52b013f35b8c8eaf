"""Run under mpiexec: trainings that meet a poisoned batch and go back; prints JSON.

The argument is a folder for runs and checkpoints. The batch of samples 28 to 31, which is that of
iteration 8, has a loss a hundred times too large, or none.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from longseq.checkpoint.run_checkpoints import RunCheckpoints
from longseq.config.checks import parse_config
from longseq.data.opening import open_data
from longseq.engine.distributed import start_distributed, stop_distributed
from longseq.errors import BadNumbers
from longseq.run.safety.stopping import Stopper
from longseq.run.safety.watch import Watch
from longseq.training import rewind
from longseq.training.feed import Feed, MicroBatch
from longseq.training.loop import Training, train
from longseq.training.trainer import Trainer
from tests.parallel.losses import GENOME

COMMON = (
    "--num-layers 2 --hidden-size 64 --num-attention-heads 4 --seq-length 64 --device cpu"
    " --use-flash-attn-sdpa --use-rotary-position-embeddings --hidden-dropout 0.1 --eval-iters 0"
    f" --global-batch-size 4 --lr 1e-3 --lr-decay-style constant --data-path {GENOME}"
    " --spike-window 4 --train-iters 10"
)
LAYOUTS = {
    "tp-split": "--tensor-model-parallel-size 2 --sequence-parallel",
    "bf16-zero-1": "--zero-stage 1 --bf16",
    "zero-3": "--zero-stage 3",
}
FIRST, BATCH, AT = 28, 4, 8


def poison(value: float, last: int = FIRST) -> Any:
    """While it is entered, the batches that begin at FIRST to `last` have a loss `value` times
    theirs.
    """
    usual = Feed.step

    def step(feed: Feed, consumed: int, length: int = 0) -> Iterator[MicroBatch]:
        for batch in usual(feed, consumed, length):
            harmed = FIRST <= consumed <= last
            yield replace(batch, mask=batch.mask * value) if harmed else batch

    return mock.patch.object(Feed, "step", step)


def saves(folder: Path) -> list[int]:
    """The iterations of the saves whose figures stand in the records, also in those undone."""
    found = []
    for path in folder.glob("metrics*.jsonl"):
        for record in map(json.loads, path.read_text().splitlines()):
            figures = [record, *record.get("checkpoints_before", [])]
            found += [
                one["checkpoint_iteration"] for one in figures if "checkpoint_iteration" in one
            ]
    return sorted(found)


def losses(folder: Path, name: str = "metrics.jsonl") -> dict[int, float | None]:
    """By iteration; None where it is no number."""
    records = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    assert len({record["iteration"] for record in records}) == len(records)
    return {record["iteration"]: record["lm_loss"] for record in records}


def events(folder: Path) -> dict[int, str]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {record["iteration"]: record["event"] for record in lines if "event" in record}


def told(folder: Path) -> str:
    """The training loss that a run's end has told."""
    closing: list[tuple[str, str]] = json.loads((folder / "summary.json").read_text())["closing"]
    return dict(closing)["training loss"]


def run(folder: Path, flags: str) -> int:
    places = ["--run-dir", str(folder), "--save", str(folder / "kept"), "--save-interval", "3"]
    argv = [*COMMON.split(), *flags.split(), *places]
    return train(parse_config(argv, int(os.environ["WORLD_SIZE"])), Watch(Stopper()))


def without(flags: str) -> dict[int, float]:
    """The losses of a training that is driven by hand and never sees the batch."""
    config = parse_config([*COMMON.split(), *flags.split()], int(os.environ["WORLD_SIZE"]))
    data = open_data(config.data, config.network.seq_length, config.training.seed)
    assert data.train is not None
    found = {}
    with Trainer(config, data.vocab_size) as trainer:
        trainer.guard(lambda _loss, _norm: True)
        feed = Feed(data.train, config, trainer.mesh, trainer.device)
        while trainer.iteration < config.training.train_iters:
            if trainer.iteration + 1 == AT:
                trainer.consumed_samples += BATCH
            loss = trainer.step(feed.step(trainer.consumed_samples)).loss
            found[trainer.iteration] = loss
    return found


def rewound(folder: Path, flags: str, value: float) -> dict[int, float | None]:
    """A run that goes back from the batch."""
    with poison(value):
        run(folder, flags + " --on-spike rewind")
    return losses(folder)


def resumed(folder: Path, before: Path, flags: str) -> dict[int, float | None]:
    """A run from the checkpoint before the batch, as if the other was killed when it went back."""
    with poison(100.0):
        run(folder, f"{flags} --on-spike stop --load {before}/kept/step-6")
    return losses(folder)


def skipped(folder: Path, flags: str) -> list[Any]:
    """A whole run that leaves updates out, and another from its twelfth iteration on; and what the
    first has said.
    """
    flags += " --on-spike skip --spike-factor 1.01 --lr 2e-2 --train-iters 24"
    with redirect_stdout(io.StringIO()) as said:
        run(folder / "whole", flags)
    run(folder / "rest", f"{flags} --load {folder}/whole/kept/step-12")
    names = ("whole", "rest")
    found = [{"losses": losses(folder / n), "events": events(folder / n)} for n in names]
    return [*found, said.getvalue()]


def endless(folder: Path) -> str:
    """Every batch from the poisoned one on is poisoned too."""
    try:
        with poison(math.nan, 10**9), mock.patch.object(rewind, "MOST", 2):
            run(folder, LAYOUTS["zero-3"] + " --on-spike rewind")
    except BadNumbers as error:
        return str(error)
    return "it ended"


def stopped(folder: Path, flags: str) -> str:
    """What it says where it stops at the batch."""
    try:
        with poison(100.0):
            run(folder, flags + " --on-spike stop")
    except BadNumbers as error:
        return str(error)
    return "it ended"


def careless(folder: Path, flags: str) -> Any:
    """The failsafe: a training that only says it went back, and keeps its weights."""
    saved: list[dict[str, int]] = []
    usual = Training.save

    def save(self: Training) -> None:
        usual(self)
        saved.append(self.trainer.progress())

    def go_back(*_: object) -> dict[str, int]:
        return saved[-1]

    careless = mock.patch.object(RunCheckpoints, "go_back", go_back)
    with mock.patch.object(Training, "save", save), careless:
        return rewound(folder, flags, 100.0)


def main() -> None:
    warnings.simplefilter("ignore")
    start_distributed(torch.device("cpu"))
    page = mock.patch(
        "longseq.training.announcer.write_page"
    )  # its pictures take longer than a run
    # Batches a step ahead, as on a GPU: those of the steps that do not come must be dropped
    ahead = mock.patch.object(Feed, "pinned", True)
    with page, ahead, mock.patch.object(torch.Tensor, "pin_memory", lambda x: x):
        found = everything(Path(sys.argv[1]))
    if os.environ["RANK"] == "0":
        print(json.dumps(found), flush=True)
    stop_distributed()


def everything(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, (name, flags) in enumerate(LAYOUTS.items()):
        value = (100.0, math.nan)[number % 2]
        found[name] = [without(flags), rewound(folder / name, flags, value)]
    last, flags = LAYOUTS.copy().popitem()
    found["abandoned"] = losses(folder / last, "metrics-abandoned.jsonl")
    found["events"] = events(folder / last)
    lines = (folder / last / "metrics.jsonl").read_text().splitlines()
    found["last"] = json.loads(lines[-1])
    found["saves"] = saves(folder / last)
    found["resumed"] = resumed(folder / "resumed", folder / last, flags)
    if os.environ["RANK"] == "0":
        found["told"] = [told(folder / name) for name in (last, "resumed")]
    found["skipped"] = skipped(folder / "skipped", flags)
    found["careless"] = careless(folder / "careless", flags)
    found["stopped"] = stopped(folder / "stopped", LAYOUTS["zero-3"])
    found["endless"] = endless(folder / "endless")
    return found


if __name__ == "__main__":
    main()
