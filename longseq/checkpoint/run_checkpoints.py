"""A run's own checkpoints: when one fits this run, what goes into one, what comes out.

    kept = RunCheckpoints(config, data, trainer.engine, trainer.mesh, ranks)
    progress = kept.load(warn)         # None where --load names nothing; raises UserError
    kept.claim(screen.warn)            # where --save names a folder, it is this run's from now on
    kept.save(progress)                # begins one; the training goes on beside it
    report = kept.advance()            # once a step: figures of a save that has just been finished
    kept.finish()                      # waits for what is under way

`progress` is how far the training is: iteration, consumed_samples (its position in the data) and
consumed_tokens. saver.py writes the files; here is what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from longseq.checkpoint.fit import check_fit, check_vocabulary, network
from longseq.checkpoint.format.folder import find_latest
from longseq.checkpoint.format.manifest import Manifest
from longseq.checkpoint.owner import Claim, claim_folder
from longseq.checkpoint.saver import NoRoom, Saved, Saver
from longseq.checkpoint.state.load import load
from longseq.checkpoint.state.share import Share
from longseq.checkpoint.state.zero_state import engine_state
from longseq.config.arguments import Config
from longseq.data.opening import TrainingData
from longseq.data.tokenizers.registry import write_tokenizer
from longseq.errors import UserError
from longseq.parallel.agreement import Ranks
from longseq.parallel.mesh import Mesh
from longseq.run.environment import package_versions


class RunCheckpoints:
    """The checkpoints of one training."""

    def __init__(
        self, config: Config, data: TrainingData, engine: Any, mesh: Mesh, ranks: Ranks
    ) -> None:
        self.config, self.data, self.ranks = config, data, ranks
        self.state = engine_state(engine, mesh)
        self.loaded: Path | None = None  # what --load found
        self.newest: Path | None = None  # what this run has written, whole
        self.note = ""  # what a resumed run does otherwise than the one before
        self.seconds = 0.0  # of the longest save
        self._saver: Saver | None = None
        self._claim: Claim | None = None
        self._reserved = False

    def layout(self) -> dict[str, Any]:
        """How the ranks share the work; where it is the same, random states are those of before."""
        train = self.config.training
        return {
            **asdict(self.config.layout),
            "zero_stage": train.zero_stage,
            "offload_optimizer": train.offload_optimizer,
            "remote_device": train.remote_device,
            "dtype": train.dtype,
            "micro_batch_size": train.micro_batch_size,
            "global_batch_size": self.config.global_batch_size,
            "seq_length": self.config.network.seq_length,
        }

    def load(self, warn: Callable[[str], None]) -> dict[str, int] | None:
        """Put the newest whole checkpoint of --load into the engine; returns its progress."""
        if not self.config.run.load:
            return None
        self.loaded, manifest = find_latest(Path(self.config.run.load), warn, self.ranks)
        check_fit(self.loaded, manifest, self.config)
        tokenizer = self.data.tokenizer.specification
        check_vocabulary(self.loaded, manifest, self.data.vocab_size, tokenizer)
        same = dict(manifest.layout) == self.layout()
        load(self.state, self.loaded, manifest, self.ranks.rank, same)
        before, now = manifest.layout["seq_length"], self.config.network.seq_length
        if before != now:
            self.note = f"samples of {now:,} tokens from here on, {before:,} before"
        return dict(manifest.progress)

    def claim(self, warn: Callable[[str], None]) -> None:
        """Take the folder that --save names; a full disk is told through `warn` from now on."""
        run = self.config.run
        if not run.save:
            return
        problem = None
        if self.ranks.rank == 0:
            try:
                self._claim = claim_folder(Path(run.save), self.loaded)
            except UserError as error:
                problem = str(error)
        if problem := self.ranks.gather(problem)[0]:
            raise UserError(problem)
        keep = (run.keep_last, run.keep_every)
        self._saver = Saver(Path(run.save), self._claim, self.ranks, keep)
        self._warn = warn

    def save(self, progress: Mapping[str, int]) -> None:
        """Begin to write a checkpoint, unless it is there already."""
        if self._saver is None or self._is_there(progress["iteration"]):
            return
        manifest = Manifest(
            dict(progress),  # it goes on while this is written
            network(self.config.network),
            self.config.training.optimizer,
            self.data.vocab_size,
            self.data.tokenizer.specification,
            self.layout(),
            package_versions(),
        )
        try:
            self._finished(self._saver.finish())
            self._saver.save(
                self.state, manifest, lambda path: write_tokenizer(self.data.tokenizer, path)
            )
        except NoRoom as error:
            self._tell(error)

    def _is_there(self, iteration: int) -> bool:
        saved = self.newest is not None and self.newest.name == f"step-{iteration}"
        return saved or (self._saver is not None and self._saver.step == iteration)

    def has(self, iteration: int) -> bool:
        """Whether nothing is lost: this iteration's checkpoint is there, or none is asked for."""
        saved = self.newest is not None and self.newest.name == f"step-{iteration}"
        return saved or self._saver is None

    def advance(self) -> dict[str, float]:
        """Once a step: go on with what is under way; figures of what was finished, for the record.

        The first call reserves memory: then the optimizer has its state, and it shows how much.
        """
        if self._saver is None:
            return {}
        if not self._reserved and self.config.run.save_interval:
            self._saver.reserve(Share(self.state, {}).bytes)
        self._reserved = True
        try:
            return self._finished(self._saver.advance())
        except NoRoom as error:
            self._tell(error)
            return {}

    def finish(self) -> dict[str, float]:
        """Wait for what is under way; its figures."""
        try:
            return self._finished(self._saver.finish()) if self._saver is not None else {}
        except NoRoom as error:
            self._tell(error)
            return {}

    def close(self) -> None:
        """Let another run have the folder."""
        if self._claim is not None:
            self._claim.release()

    def _finished(self, saved: Saved | None) -> dict[str, float]:
        if saved is None:
            return {}
        self.newest = saved.path
        self.seconds = max(self.seconds, saved.seconds)
        return {
            "checkpoint_iteration": saved.step,
            "checkpoint_bytes": saved.bytes,
            "checkpoint_seconds": saved.seconds,
            "checkpoint_seconds_waited": saved.waited,
            "checkpoint_bytes_per_sec": saved.bytes / saved.seconds,
        }

    def _tell(self, error: NoRoom) -> None:
        kept = f"{self.newest} is the newest" if self.newest else "there is none yet"
        self._warn(f"{error}; {kept}; training goes on, and the next save tries again: free some")
