"""An engine small enough for a unit test: a real optimizer of stage 0 without DeepSpeed around it.

engine = SmallEngine(1.0)
save_step(folder, engine, 5)
path = load_newest(folder, engine)
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from longseq.checkpoint.format.folder import find_latest
from longseq.checkpoint.format.manifest import Manifest
from longseq.checkpoint.saver import Saved, Saver
from longseq.checkpoint.state.load import load
from longseq.checkpoint.state.zero_state import engine_state
from longseq.engine.stage0 import BareOptimizer
from longseq.parallel.agreement import Ranks
from longseq.parallel.mesh import Group, Mesh

ALONE = Ranks()


class SmallEngine:
    """What a checkpoint needs of a DeepSpeed engine at stage 0."""

    def __init__(self, value: float, width: int = 4, **adam: Any) -> None:
        self.device = torch.device("cpu")
        self.linear = nn.Linear(width, 3)
        self.module = nn.Sequential(self.linear, nn.LayerNorm(3))
        parameters = list(self.module.parameters())
        for parameter in parameters:
            nn.init.constant_(parameter, value)
        groups = [{"params": parameters[:2]}, {"params": parameters[2:]}]
        make = partial(torch.optim.AdamW, lr=1e-3, **adam)
        self.optimizer = BareOptimizer(make, groups, 0.0, Group("tp"))

    def step(self) -> None:
        for parameter in self.module.parameters():
            parameter.grad = torch.ones_like(parameter)
        self.optimizer.step()

    def zero_optimization_stage(self) -> int:
        return 0

    def numbers(self) -> list[float]:
        """All weights and moments, to compare."""
        state = engine_state(self, Mesh.single())
        return [n for _, numbers in state.pieces() for n in numbers.tolist()]


def manifest_of(step: int) -> Manifest:
    progress = {"iteration": step, "consumed_samples": 2 * step, "consumed_tokens": 64 * step}
    return Manifest(
        progress,
        {"num_layers": 1},
        "adam",
        8,
        "nucleotide",
        {"tp": 1, "seq_length": 32},
        {"torch": "2"},
    )


def save_step(
    folder: Path, engine: SmallEngine, step: int, ranks: Ranks = ALONE, **options: Any
) -> Saved:
    """Write `step-N` beside the training, and wait for it."""
    saver = Saver(folder, None, ranks, **options)
    saver.reserve(1 << 10)

    def beside(path: Path) -> None:
        (path / "vocabulary.json").write_text("{}")

    saver.save(engine_state(engine, Mesh.single()), manifest_of(step), beside)
    saved = saver.finish()
    assert saved is not None
    return saved


def load_newest(folder: Path, engine: SmallEngine, same_layout: bool = True) -> int:
    """Put the newest checkpoint into the engine; its iteration. Nothing may be damaged."""
    said: list[str] = []
    path, manifest = find_latest(folder, said.append)
    assert said == []
    load(engine_state(engine, Mesh.single()), path, manifest, 0, same_layout)
    return manifest.progress["iteration"]
