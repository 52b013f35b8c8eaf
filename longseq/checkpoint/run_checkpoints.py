"""A run's own checkpoints: when one fits this run, what goes into one, what comes out.

    kept = RunCheckpoints(config, data, trainer.engine, trainer.mesh, ranks)
    progress = kept.load(warn)         # None where --load names nothing; raises UserError
    kept.claim(screen.warn)            # where --save names a folder, it is this run's from now on
    kept.save(progress, spikes)        # begins one; the training goes on beside it
    report = kept.advance()            # once a step: figures of a save that has just been finished
    reports = kept.finish()            # waits for what is under way; figures not given so far
    kept.settle()                      # waits, and `advance` will give the figures
    progress = kept.go_back(warn)      # to the newest one, in the middle of the training
    kept.leave_out(batch)              # kept.left_out knows of it from now on, and every later run

`progress` is how far the training is: iteration, consumed_samples (its position in the data) and
consumed_tokens; `spikes` is what it judges losses by, and kept.spikes that of the checkpoint taken
last. saver.py writes the files; here is what they mean.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from longseq.checkpoint.fit import check_fit, network
from longseq.checkpoint.format.folder import find_latest
from longseq.checkpoint.format.manifest import Damaged, Manifest
from longseq.checkpoint.left_out import AllLeftOut, LeftOut, read_left_out
from longseq.checkpoint.other_samples import compare, idle, of_all
from longseq.checkpoint.owner import Claim, claim_folder
from longseq.checkpoint.saver import NoRoom, Saved, Saver
from longseq.checkpoint.state.load import load
from longseq.checkpoint.state.share import Share
from longseq.checkpoint.state.zero_state import engine_state
from longseq.checkpoint.trained import check_tokenizer
from longseq.config.arguments import Config
from longseq.data.numbering import numbering
from longseq.data.opening import TrainingData
from longseq.data.tokenizers.registry import write_tokenizer
from longseq.errors import BadNumbers, UserError
from longseq.host.atomic_files import reason, unwritable
from longseq.parallel.agreement import Ranks
from longseq.parallel.mesh import Mesh
from longseq.run.environment import package_versions
from longseq.run.resumed import find_before

Warn = Callable[[str], None]


class RunCheckpoints:
    """The checkpoints of one training."""

    def __init__(
        self,
        config: Config,
        data: TrainingData,
        engine: Any,
        mesh: Mesh,
        ranks: Ranks,
        wanted: float = 0.0,
    ) -> None:
        """wanted: bytes of this host that a step takes and gives back."""
        self.config, self.data, self.ranks, self.wanted = config, data, ranks, wanted
        self.state = engine_state(engine, mesh)
        self.loaded: Path | None = None  # what --load found
        self.newest: Path | None = None  # what this run has written, whole, and not gone behind
        self.left_out = AllLeftOut()
        self.spikes: Mapping[str, Any] = {}
        seed = config.training.seed
        self.contents = of_all(numbering(data.cuts, config.data, seed), ranks)
        self.notes: list[str] = []  # what a resumed run does otherwise than the one before
        self.seconds = 0.0  # of the longest save
        self._saver: Saver | None = None
        self._claim: Claim | None = None
        self._reserved = False
        self.ends_at = config.training.train_iters  # of whose checkpoint the run's end speaks
        self._lacked: int | None = None  # the iteration whose checkpoint found no room last
        self._lacks, self.lack = 0, ""  # saves in a row that found none, and what is said of it
        self._damaged: set[Path] = set()  # those passed over, which may be replaced
        self._figures: deque[dict[str, float]] = deque()  # of finished saves, not given yet

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

    def load(self, warn: Warn) -> dict[str, int] | None:
        """Put the newest whole checkpoint of --load into the engine; returns its progress."""
        if not self.config.run.load:
            return None
        self.loaded, manifest = self._restore(Path(self.config.run.load), warn)
        loaded, length = self.loaded, self.config.network.seq_length
        run = self._from_first(lambda: find_before(loaded))
        samples = compare(manifest.data, self.contents, run, self.config)
        kept = self._from_first(lambda: read_left_out(Path(self.config.run.load), loaded.parent))
        self.left_out = samples.read(kept)
        consumed = manifest.progress["consumed_samples"]
        if not manifest.optimizer:
            self.notes.append("it holds weights only: the optimizer begins anew")
        if (before := manifest.layout["seq_length"]) != length:
            text = f"samples of {length:,} tokens from here on, {before:,} before"
            self.notes.append(text + (": some come twice or never" if consumed else ""))
        self.notes += samples.notes if consumed else []
        self.notes += idle(self.left_out, consumed, length, self.contents["sha256"])
        self.notes += run.differences(self.config) if run else []
        return dict(manifest.progress)

    def _restore(self, path: Path, warn: Warn, asked: str = "") -> tuple[Path, Manifest]:
        found, manifest = find_latest(path, warn, self.ranks, asked=asked, damaged=self._damaged)
        check_fit(found, manifest, self.config)
        check_tokenizer(found, manifest, self.data.tokenizer)
        try:
            load(self.state, found, manifest, self.ranks.rank, manifest.layout == self.layout())
        except Damaged as damage:  # its hashes are good: whoever wrote it wrote this
            raise UserError(
                f"--load {found} (LOAD or RESUME) does not hold what its manifest says: {damage}:"
                " go on from another one"
            ) from None
        self.spikes = manifest.spikes
        return found, manifest

    @property
    def last(self) -> Path | None:
        """The checkpoint to go back to: the newest of this run, or what --load found."""
        return self.newest or self.loaded

    def tell_last(self) -> str:
        """For a run's last words: from where one can go on. Waits for what is under way."""
        self.settle()
        return f"the newest checkpoint is {self.last}" if self.last else "there is no checkpoint"

    def go_back(self, warn: Warn) -> dict[str, int]:
        """Put the newest whole checkpoint into the engine again; returns its progress.

        To be called where `last` names one, after `finish`. Raises BadNumbers where none is whole.
        """
        self._lacked, problem = None, None  # its iteration comes again
        for place in filter(None, (self.newest and self.newest.parent, self.loaded)):
            try:
                found, manifest = self._restore(place, warn, "--on-spike rewind")
            except UserError as error:
                problem = error
                continue
            self.newest = found if found.parent == Path(self.config.run.save) else None
            self.loaded = self.loaded if self.newest else found
            return dict(manifest.progress)
        raise BadNumbers(f"{problem}; the run itself has no whole one to go back to")

    def claim(self, warn: Warn) -> None:
        """Take the folder that --save names; a full disk is told through `warn` from now on."""
        run = self.config.run
        if not run.save:
            return
        self._from_first(lambda: self._take(Path(run.save)))
        keep = (run.keep_last, run.keep_every)
        self._saver = Saver(Path(run.save), self._claim, self.ranks, keep, warn=warn)
        self._warn = warn

    def _take(self, folder: Path) -> None:
        self._claim = claim_folder(folder, self.loaded, self._damaged)
        try:
            self.left_out.write(folder)
        except OSError as error:
            text = f"--save {folder} cannot be written: {reason(error)}"
            raise unwritable(text, error) from None

    def _from_first(self, act: Callable[[], Any]) -> Any:
        """What `act` gives on rank 0; where it raises UserError there, all do."""
        result, problem = None, None
        if self.ranks.rank == 0:
            try:
                result = act()
            except UserError as error:
                problem = type(error)(str(error))
        result, problem = self.ranks.gather((result, problem))[0]
        if problem:
            raise problem
        return result

    def leave_out(self, batch: LeftOut) -> None:
        """Remember not to train on a batch, here and in every run that goes on from these."""
        self.left_out = self.left_out.with_batch(batch)
        if self.ranks.rank == 0:
            try:
                self.left_out.write(Path(self.config.run.save))
            except OSError as error:
                self._warn(
                    f"samples {batch.first} to {batch.last} are left out, but a run that goes on"
                    f" from here will not know: {reason(error)}"
                )

    def save(self, progress: Mapping[str, int], spikes: Mapping[str, Any]) -> None:
        """Begin to write a checkpoint, unless it is there already, or has just found no room."""
        iteration = progress["iteration"]
        done = self.has(iteration) or iteration == self._lacked
        if self._saver is None or done or iteration == self._saver.step:
            return
        manifest = Manifest(
            dict(progress),  # it goes on while this is written
            network(self.config.network),
            self.config.training.optimizer,
            self.data.vocab_size,
            self.data.tokenizer.specification,
            self.layout(),
            package_versions(),
            spikes=spikes,
            data=self.contents,
        )
        self.settle()
        try:
            self._saver.save(
                self.state, manifest, lambda path: write_tokenizer(self.data.tokenizer, path)
            )
        except NoRoom as error:
            self._tell(error, iteration)

    def has(self, iteration: int) -> bool:
        """Whether nothing is lost: this iteration's checkpoint is there, or none is asked for."""
        saved = self.newest is not None and self.newest.name == f"step-{iteration}"
        return saved or self._saver is None

    @property
    def copies(self) -> bool:
        """Whether memory is held for a checkpoint's copy."""
        return self._saver is not None and self._saver.copies

    def advance(self) -> dict[str, float]:
        """Once a step: go on with what is under way; figures of what was finished, for the record.

        The first call reserves memory: then the optimizer has its state, and it shows how much.
        """
        if self._saver is None:
            return {}
        if not self._reserved and self.config.copies:
            pinned = self.state.device.type == "cuda"
            self._saver.reserve(Share(self.state, {}).bytes, self.wanted, pinned)
        self._reserved = True
        self._go_on(self._saver.advance)
        return self._figures.popleft() if self._figures else {}

    def settle(self) -> None:
        """Wait for what is under way."""
        if self._saver is not None:
            self._go_on(self._saver.finish)

    def finish(self) -> list[dict[str, float]]:
        """The same; figures of each save that `advance` has not given yet, in their order."""
        self.settle()
        figures, self._figures = self._figures, deque()
        return list(figures)

    def _go_on(self, act: Callable[[], Saved | None]) -> None:
        step = self._saver.step if self._saver else None
        try:
            self._keep_figures(act())
        except NoRoom as error:
            self._tell(error, step)

    def close(self) -> None:
        """Let another run have the folder."""
        if self._claim is not None:
            self._claim.release()

    def _keep_figures(self, saved: Saved | None) -> None:
        if saved is None:
            return
        self.newest, self._lacks = saved.path, 0
        self.seconds = max(self.seconds, saved.seconds)
        self._figures.append(
            {
                "checkpoint_iteration": saved.step,
                "checkpoint_bytes": saved.bytes,
                "checkpoint_seconds": saved.seconds,
                "checkpoint_seconds_waited": saved.waited,
                "checkpoint_bytes_per_sec": saved.bytes / saved.seconds,
            }
        )

    def _tell(self, error: NoRoom, step: int | None) -> None:
        kept = f"{self.newest} is the newest" if self.newest else "there is none yet"
        self._lacked, self.lack = step, f"{error}; {kept}: free some"
        self._lacks += 1
        if step == self.ends_at:
            return
        if self._lacks > 1:
            self._warn(f"no room for the checkpoint of iteration {step}: {self._lacks} in a row")
        else:
            text = f"{error}; {kept}; training goes on, and the next save tries again: free some"
            self._warn(text)
