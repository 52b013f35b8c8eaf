"""Run under mpiexec: a Trainer driven by hand; prints what it did as JSON.

The first argument is a folder for checkpoints.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from longseq.attention.kernels.core import attend
from longseq.checkpoint.run_checkpoints import RunCheckpoints
from longseq.config.checks import parse_config
from longseq.data.opening import open_data
from longseq.engine.distributed import start_distributed, stop_distributed
from longseq.model.dropout import Dropout
from longseq.training.feed import Feed
from longseq.training.trainer import Trainer
from tests.gpu.syncs import counted
from tests.parallel.losses import GENOME

COMMON = (
    "--num-layers 2 --hidden-size 64 --num-attention-heads 4 --seq-length 64 --device cpu"
    " --global-batch-size 4 --train-iters 10 --lr 1e-3 --min-lr 1e-4"
    f" --split 1,1,0 --data-path {GENOME}"
)
DOCUMENTS = "--reset-attention-mask --eod-mask-loss"
LAYOUTS = {
    "dp, zero 2": "--zero-stage 2",
    "tp, split, zero 3": "--tensor-model-parallel-size 2 --sequence-parallel --zero-stage 3",
    "ulysses, tiled": "--ds-sequence-parallel-size 2 --checkpoint-activations --tile-size 24",
    "ring, documents": f"--context-parallel-size 2 {DOCUMENTS}",
}

CUTS = {
    "dp, one by one": "",
    "dp, two at a time": "--micro-batch-size 2 --zero-stage 2",
    "ulysses, recomputed": "--ds-sequence-parallel-size 2 --checkpoint-activations",
    "tp, four at a time": "--tensor-model-parallel-size 2 --micro-batch-size 4",
}


def make(flags: str, kernel: str = "--use-flash-attn-sdpa") -> tuple[Trainer, Feed, RunCheckpoints]:
    words = f"{COMMON} {kernel} {flags}".split()
    config = parse_config(words, int(os.environ["WORLD_SIZE"]))
    data = open_data(config.data, config.network.seq_length, config.training.seed)
    trainer = Trainer(config, data.vocab_size)
    assert data.train is not None
    feed = Feed(data.train, config, trainer.mesh, trainer.device)
    return trainer, feed, RunCheckpoints(config, data, trainer.engine, trainer.mesh, trainer.ranks)


def steps_without_read_back(flags: str) -> dict[str, Any]:
    """Two steps, the second taken apart; where its forward and backward wait for a value."""
    trainer, feed, _ = make(flags)
    with trainer:
        trainer.step(feed.step(0))
        batches = list(feed.step(trainer.consumed_samples))
        with counted(trainer.device) as waits:
            loss = trainer.forward_backward(batches)
        rate = trainer.update()
        return {"waits": dict(waits), "loss": float(loss), "rate": rate, **trainer.progress()}


def by_position(flags: str) -> dict[str, float]:
    """The first losses by place in the sequence."""
    trainer, feed, _ = make(flags)
    with trainer:
        found = trainer.evaluate(feed, 2)
    return {"all": found.loss, **found.by_position}


def by_position_as_defined(flags: str) -> dict[str, float]:
    """The same from whole logits, a token at a time, where each rank has whole samples."""
    trainer, feed, _ = make(flags)
    pairs: list[tuple[int, float, float]] = []
    with trainer, torch.no_grad():
        for batch in [*feed.step(0), *feed.step(4)]:
            hidden = trainer.model.hidden(batch.tokens, batch.positions, batch.documents)
            logits = hidden.transpose(0, 1) @ trainer.model.head.weight.t()
            logits = logits[..., : trainer.model.head.vocabulary]
            losses = -logits.log_softmax(-1).gather(-1, batch.labels[..., None])[..., 0]
            for row, counts in zip(losses.tolist(), batch.mask.tolist(), strict=True):
                pairs += [
                    (2 ** math.ceil(math.log2(before)), loss, count)
                    for before, loss, count in zip(range(1, 65), row, counts, strict=True)
                ]
        pairs = [pair for of_rank in trainer.ranks.gather(pairs) for pair in of_rank]

    def mean(some: list[tuple[int, float, float]]) -> float:
        return sum(loss * count for _, loss, count in some) / sum(n for _, _, n in some)

    places = sorted({place for place, _, _ in pairs})
    each = {f"loss_after_{n}": mean([pair for pair in pairs if pair[0] == n]) for n in places}
    return {"all": mean(pairs), **each}


def uneven(folder: Path) -> dict[str, list[float]]:
    """Losses, norms and validation where samples count differently, a global batch cut each way.

    "as defined" is the validation's loss alone, from whole logits and what counts of each label.
    """
    draw = random.Random(3)
    records = [10, 63, 200, 6, 500, 30] * 12
    text = [f">{n}\n{''.join(draw.choices('ACGT', k=n))}\n" for n in records]
    (folder / "uneven.fa").write_text("".join(text), encoding="utf-8")
    common = f"--data-path {folder / 'uneven.fa'} --no-cross-document --lr 1e-2"
    found = {"as defined": [by_position_as_defined(common)["all"]]}
    for name, flags in CUTS.items():
        trainer, feed, _ = make(f"{common} {flags}")
        with trainer:
            before = trainer.evaluate(feed, 2).loss
            steps = [trainer.step(feed.step(trainer.consumed_samples)) for _ in range(2)]
        found[name] = [before, *(x for step in steps for x in (step.loss, step.grad_norm))]
    return found


def larger_batch(folder: Path) -> dict[str, Any]:
    """Two steps of 4 samples, saved; then one of 8 from there, and where it reads."""
    trainer, feed, kept = make(f"--save {folder}")
    with trainer:
        for _ in range(2):
            trainer.step(feed.step(trainer.consumed_samples))
        before = trainer.evaluate(feed, 2).loss  # of the first 8 samples
        kept.claim(print)
        kept.save(trainer.progress(), {})
        kept.finish()
    trainer, feed, kept = make(f"--load {folder} --global-batch-size 8")
    with trainer:
        trainer.resume(kept.load(print) or {})
        found: dict[str, Any] = {
            "resumed": trainer.progress(),
            "loss": [before, trainer.evaluate(feed, 1).loss],
        }
        try:
            trainer.forward_backward(list(feed.step(trainer.consumed_samples))[:1])
        except ValueError as error:
            found["too few"] = str(error)
    return found


def refused_update(stage: int) -> dict[str, Any]:
    """A batch that is not a number on rank 1, between two good ones; and the same without it.

    At stage 0 also with nobody who refuses it.
    """
    asked: list[tuple[float, float]] = []

    def finite(loss: float, norm: float) -> bool:
        asked.append((loss, norm))
        return math.isfinite(loss) and math.isfinite(norm)

    ends, updated = [], []
    guards = [finite, finite] + [lambda _loss, _norm: True] * (stage == 0)
    for number, may_update in enumerate(guards):
        poisoned = number != 1
        trainer, feed, _ = make(f"--zero-stage {stage} --lr 1e-2 --bf16")
        with trainer:
            trainer.guard(may_update)
            trainer.step(feed.step(0))
            if poisoned:
                batches = list(feed.step(4))
                if trainer.mesh.dp.rank == 1:
                    batches[-1] = replace(batches[-1], mask=batches[-1].mask * math.nan)
                updated.append(trainer.step(batches).updated)
                trainer.iteration, trainer.consumed_samples = 1, 4
            updated.append(trainer.step(feed.step(4)).updated)
            ends.append(trainer.evaluate(feed, 1).loss.hex())
    same = [end == ends[0] for end in ends[1:]]
    return {"asked": len(asked), "updated": updated, "same": same}


def drawn(flags: str) -> list[dict[str, list[int]]]:
    """Of each rank: the seeds of what it drops in a step, a validation and another step."""
    found: dict[str, list[int]] = {name: [] for name in ("first", "validation", "second")}
    at, usual = [""], Dropout.seed_of

    def seed_of(self: Dropout, forward_pass: int) -> int:
        seed = usual(self, forward_pass)
        found[at[0]].append(seed)
        return seed

    dropout = "--hidden-dropout 0.1 --attention-dropout 0.1 --micro-batch-size 2"
    trainer, feed, _ = make(f"--tensor-model-parallel-size 2 {dropout} {flags}", kernel="")
    with trainer, mock.patch.object(Dropout, "seed_of", seed_of):
        for at[0] in found:
            if at[0] == "validation":
                trainer.evaluate(feed, 1)
            else:
                trainer.step(feed.step(trainer.consumed_samples))
        return trainer.ranks.gather(found)


def main() -> None:
    warnings.simplefilter("ignore")
    start_distributed(torch.device("cpu"))
    found: dict[str, Any] = {"uneven": uneven(Path(sys.argv[1]))}
    found["larger batch"] = larger_batch(Path(sys.argv[1]))
    found["refused, zero 0"] = refused_update(0)
    q, k, v = torch.randn(3, 4, 1, 2, 8, requires_grad=True)
    attend(q, k, v, None, None).sum().backward()
    # but for stage 3 and whoever counts operations, as here
    spared = ("torch._dynamo", "sympy", "triton")
    found["imports in vain"] = [name for name in spared if name in sys.modules]
    found |= {name: steps_without_read_back(flags) for name, flags in LAYOUTS.items()}
    found["by position"] = {name: by_position(flags) for name, flags in LAYOUTS.items()}
    found["as defined"] = [by_position_as_defined(flags) for flags in ("", DOCUMENTS)]
    found["drawn"] = [drawn(flags) for flags in ("", "--sequence-parallel")]
    for stage in range(1, 4):
        found[f"refused, zero {stage}"] = refused_update(stage)
    found["loads torch's compiler"] = "torch._inductor.compile_fx" in sys.modules
    if os.environ["RANK"] == "0":
        print(json.dumps(found), flush=True)
    stop_distributed()


if __name__ == "__main__":
    main()
