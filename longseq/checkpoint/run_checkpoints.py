"""A run's own checkpoints: when one fits this run, what goes into one, what comes out.

    kept = RunCheckpoints(config, data, ranks)
    progress = kept.load(engine, warn)       # None where --load names nothing
    kept.save(engine, progress)              # where --save names a folder

`progress` is how far the training is: iteration, consumed_samples (its position in the data) and
consumed_tokens.

checkpoint.py writes and checks the files; here is what they mean.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from longseq.checkpoint import checkpoint
from longseq.config.arguments import Config
from longseq.data.opening import TrainingData
from longseq.data.tokenizers.registry import write_tokenizer
from longseq.parallel.agreement import Ranks
from longseq.run.environment import package_versions

PROGRESS = ("iteration", "consumed_samples", "consumed_tokens")


class RunCheckpoints:
    """The checkpoints of one training."""

    def __init__(self, config: Config, data: TrainingData, ranks: Ranks) -> None:
        self.config, self.data, self.ranks = config, data, ranks
        self.newest: Path | None = None
        self.note = ""  # what a resumed run does otherwise than the one before

    def layout(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be loaded.

        Rotary positions serve any length. At ZeRO stage 0 each rank's file holds all that its
        tensor-parallel neighbours do not, so the number of other ranks may change.
        """
        config = self.config
        network = {f"network.{k}": v for k, v in asdict(config.network).items()}
        if config.network.use_rotary_position_embeddings:
            del network["network.seq_length"], network["network.max_position_embeddings"]
        axes = asdict(config.layout)
        if config.training.zero_stage == 0:
            axes = {"tensor_model_parallel_size": config.layout.tp}
        return {
            **axes,
            "zero_stage": config.training.zero_stage,
            "dtype": config.training.dtype,
            "vocabulary": self.data.vocab_size,
            "tokenizer": self.data.tokenizer.specification,
            **network,
        }

    def load(self, engine: Any, warn: Callable[[str], None]) -> dict[str, int] | None:
        """Put the newest whole checkpoint of --load into `engine`; returns its progress."""
        if not self.config.run.load:
            return None
        path = checkpoint.find_latest(Path(self.config.run.load), self.ranks, warn)
        state = checkpoint.load(engine, path, layout=self.layout(), ranks=self.ranks)
        before, now = state["seq_length"], self.config.network.seq_length
        if before != now:
            self.note = f"samples of {now:,} tokens from here on, {before:,} before"
        return {name: state[name] for name in PROGRESS}

    def save(self, engine: Any, progress: Mapping[str, int]) -> float:
        """Write a checkpoint, unless it is there already; returns the seconds it took."""
        folder, iteration = self.config.run.save, progress["iteration"]
        if not folder or (self.newest and self.newest.name == f"step-{iteration}"):
            return 0.0
        began = time.monotonic()
        self.newest = checkpoint.save(
            engine,
            Path(folder),
            iteration,
            client_state={**progress, "seq_length": self.config.network.seq_length},
            layout=self.layout(),
            versions=package_versions(),
            ranks=self.ranks,
            beside=lambda path: write_tokenizer(self.data.tokenizer, path),
        ).path
        return time.monotonic() - began
