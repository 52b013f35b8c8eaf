"""A training from its first to its last iteration, on every rank.

    exit_code = train(config, watch)

Reads top to bottom: set up, resume, step after step, validate, save, say how it ended. The step
itself is trainer.py's, what people see of it announcer.py's; here is what surrounds both.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from longseq.attention.kernel import Documents
from longseq.checkpoint.run_checkpoints import RunCheckpoints
from longseq.config.arguments import Config
from longseq.data.held_out import refuse_empty
from longseq.data.opening import open_data
from longseq.data.samples.curriculum import curriculum_of
from longseq.engine import nvme
from longseq.engine.distributed import pick_device, start_distributed
from longseq.engine.engine import start_deepspeed
from longseq.engine.update_guard import are_finite
from longseq.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_NO_ROOM,
    EXIT_STOPPED_EARLY,
    BadNumbers,
    FullDisk,
)
from longseq.host.host_memory import peak_memory_gib
from longseq.memory.need import needed
from longseq.parallel.agreement import torch_ranks
from longseq.run.peak import HeldToPlan
from longseq.run.safety.spikes import Spikes, Trouble
from longseq.run.safety.stopping import BrokenOff, Looks
from longseq.run.safety.stragglers import Stragglers
from longseq.run.safety.watch import Watch
from longseq.run.screen import open_log, warn_early
from longseq.training.announcer import Announcer
from longseq.training.feed import Feed, noted
from longseq.training.losses import Losses
from longseq.training.profile import Profile
from longseq.training.rewind import Rewind
from longseq.training.trainer import Trainer


def train(config: Config, watch: Watch) -> int:
    """Train as `config` says; returns the exit code. Raises UserError before the first step."""
    if nvme.wanted(config):
        watch.puts_away(nvme.release)
    try:
        training = Training(config, watch)
    except BaseException:
        nvme.release()
        raise
    code = EXIT_FAILED
    try:
        code = training.run()
        watch.closing(code)
        training.announcer.ended(
            code, training.losses, training.validation_loss, training.stopper.began
        )
        if code == EXIT_NO_ROOM:
            raise FullDisk(training.kept.lack)
    except Exception as error:
        training.announcer.failed(error)
        raise
    finally:
        training.close(code)
    return code


class Training:
    """One rank's Trainer, and around it: data, checkpoints, folder, screen, tracker, stops."""

    def __init__(self, config: Config, watch: Watch) -> None:
        """Set up and resume."""
        self.config = config
        self.watch, self.stopper = watch, watch.stopper
        device = pick_device(config)
        start_distributed(device)
        self.ranks = torch_ranks()
        if config.run.run_dir:
            open_log(Path(config.run.run_dir), self.ranks.rank)

        self.data = open_data(config.data, config.network.seq_length, config.training.seed)
        refuse_empty(self.data.cuts, config.data, validates=config.run.eval_iters > 0)
        train, valid = self.data.train, self.data.valid if config.run.eval_iters else None
        assert train is not None
        start_deepspeed()  # what libraries hold is no part of the plan
        held = HeldToPlan(config, self.data.vocab_size, device.type)
        self.trainer = Trainer(config, self.data.vocab_size, device)
        mesh = self.trainer.mesh
        self.train_feed = Feed(train, config, mesh, device)
        self.valid_feed = Feed(valid, config, mesh, device) if valid else None
        flags = config.training
        self.spikes = Spikes(flags.on_spike, flags.spike_factor, flags.spike_window, self.ranks)
        self.stragglers = Stragglers(self.ranks, device)
        self.trainer.guard(
            lambda loss, norm: self.spikes.may_update(loss, norm, self.trainer.iteration)
        )
        self.lengths = curriculum_of(config)
        self._told_empty: set[str] = set()
        self.validation_loss: float | None = None
        self._broken_off = ""  # why the last validation was

        need = needed(config, self.data.vocab_size, self.trainer.policy, device.type)
        wanted = need.passing if device.type == "cpu" else 0.0
        self.kept = RunCheckpoints(config, self.data, self.trainer.engine, mesh, self.ranks, wanted)
        if progress := self.kept.load(warn_early):
            self.trainer.resume(progress)
            self.spikes.go_back(self.trainer.iteration, self.kept.spikes)
        self.losses = Losses(self.trainer.iteration)
        self.kept.claim(lambda text: self.screen.warn(text))
        self.announcer = Announcer(config, self.data, self.trainer, self.kept, held)
        self.screen, self.tracker = self.announcer.screen, self.announcer.tracker
        self.rewind = Rewind(self.trainer, self.kept, self.spikes, self.tracker)
        folder = Path(config.run.run_dir) / "profile" if config.run.profile else None
        model, kernel, say = self.trainer.model, config.memory.kernel, self.screen.note
        self.profile = Profile(folder, self.ranks.rank, device.type, model, kernel, say)

    def run(self) -> int:
        """All iterations that are left; returns the exit code."""
        self.announcer.began()
        total, run, trainer = self.config.training.train_iters, self.config.run, self.trainer
        saved: dict[str, float] = {}
        if trainer.iteration >= total:  # the validation after the last may have been broken off
            self.validate({})
            self._stops()
        while trainer.iteration < total:
            self.watch.at(trainer.iteration + 1, "step")
            with self.profile.around(trainer.iteration + 1):
                record = self.step()
            if self.rewind.due:
                self._go_back(record)
                continue
            record |= self._look_for_stragglers(record["iteration_time"])
            if self._due(run.eval_interval) or trainer.iteration == total:
                self.validate(record)
            if saved := self.kept.advance():
                self.announcer.saved(saved)
                self.stopper.saved_in(self.kept.seconds)
            self.tracker.log(record | saved)
            self.screen.iteration(record)
            if self._due(run.save_interval):
                self.save()
            if self._stops():
                break
        self.profile.close()
        self.kept.ends_at = trainer.iteration
        self.save()
        self._complete_last(saved)
        if not self.kept.has(trainer.iteration):
            return EXIT_NO_ROOM
        done = trainer.iteration >= total and not self._broken_off
        return EXIT_DONE if done else EXIT_STOPPED_EARLY if self.kept.newest else EXIT_FAILED

    def _complete_last(self, told: dict[str, float]) -> None:
        """Wait for what is under way. The last record gets the ranks' peaks of memory, the figures
        of the last save and, beside these, those of saves that ended before it.
        """
        new = self.kept.finish()
        for figures in new:
            self.announcer.saved(figures)
        *before, last = [*([told] if told else []), *new] or [{}]
        more: dict[str, Any] = self.stragglers.peaks()
        if new:
            more |= last | ({"checkpoints_before": before} if before else {})
        if more:
            self.tracker.add_to_last(more)

    def _stops(self) -> bool:
        """Whether all ranks stop now, and said so."""
        if reason := self._broken_off or self.stopper.should_stop(self.ranks):
            self.screen.note(f"stopping after iteration {self.trainer.iteration}: {reason}")
        return bool(reason)

    def _due(self, interval: int) -> bool:
        return interval > 0 and self.trainer.iteration % interval == 0

    def step(self) -> dict[str, Any]:
        """One iteration; its record for the screen and the files."""
        began, trainer = time.perf_counter(), self.trainer
        length = self.lengths.length(trainer.iteration + 1)
        trainer.consumed_samples = self.rewind.next_sample()
        documents: list[Documents] = []
        self.spikes.trouble = None  # an overflow's step is not judged
        batches = noted(self.train_feed.step(trainer.consumed_samples, length), documents)
        result = trainer.step(batches, meanwhile=self._read_ahead)
        self.losses.add(result.loss)
        if result.loss == result.grad_norm == 0.0:
            self._nothing_counts(f"iteration {trainer.iteration}", "it gives no gradient")
        seconds = time.perf_counter() - began
        record = {
            "iteration": trainer.iteration,
            "consumed_tokens": trainer.consumed_tokens,
            "sequence_length": length,
            "lm_loss": result.loss,
            "grad_norm": result.grad_norm,
            "learning_rate": result.learning_rate,
            "iteration_time": seconds,
            **trainer.parts.seconds(),
            **asdict(self.announcer.rates(documents, length, seconds)),
            "peak_memory_gib": peak_memory_gib(trainer.device.type),
            **self.announcer.peak_memory(length),
        }
        said = [*self.announcer.restarted(), *self.rewind.told()]
        if self.spikes.trouble:
            said.append(self._act(self.spikes.trouble, record))
        return record | ({"event": "; ".join(said)} if said else {})

    def _read_ahead(self) -> None:
        """The first batch of the step after the one that a GPU is at work on."""
        following = self.trainer.iteration + 2
        if following <= self.config.training.train_iters:
            self.train_feed.ahead(self.rewind.next_sample(), self.lengths.length(following))

    def _look_for_stragglers(self, seconds: float) -> dict[str, Any]:
        """The slowest rank for the record, about once a minute."""
        found = self.stragglers.look(self.trainer.iteration, seconds)
        if self.stragglers.warning:
            self.screen.warn(self.stragglers.warning)
        return found

    def _act(self, trouble: Trouble, record: dict[str, Any]) -> str:
        """Say what is wrong with this step, and what is done about it."""
        trainer, last = self.trainer, self.trainer.consumed_samples - 1
        first = last + 1 - self.config.global_batch_size
        why = f"{trouble.text} in iteration {trainer.iteration}, samples {first} to {last}"
        done = {
            "warn": "its update was made (--on-spike)",
            "skip": "its update was left out",
            "stop": "its update was left out, and training stops",
        }
        if trouble.action in ("rewind", "stop"):  # which wait for a save that is under way
            self.watch.at(trainer.iteration, "save")
        text = f"{why}; {done.get(trouble.action) or self.rewind.plan(why, first, last)}"
        record |= {"grad_norm": self.spikes.norm}
        if trouble.action == "stop":
            self.tracker.log(record | {"event": text})
            raise BadNumbers(f"{text}; {self.kept.tell_last()}")
        self.screen.warn(text)
        return text

    def _go_back(self, record: dict[str, Any]) -> None:
        """To the last checkpoint; the iterations after it leave metrics.jsonl and come again."""
        self.tracker.log(record)
        self.watch.at(self.trainer.iteration, "load")
        self.screen.note(self.rewind.go(self.screen.warn))
        self.losses.go_back(self.trainer.iteration)

    def _nothing_counts(self, what: str, so: str) -> None:
        """Warn, the first time: where what counts is lower case, whole batches may be repeats."""
        if what.split()[0] not in self._told_empty:
            self._told_empty.add(what.split()[0])
            why = "weights of 0, or masks; ./longseq.sh data report PREFIX shows them"
            self.screen.warn(f"no label of {what} counts ({why}): {so}")

    def validate(self, record: dict[str, Any]) -> None:
        """Add the validation loss to the record, in all and by place, if there is validation."""
        if self.valid_feed is None:
            return
        self.watch.at(self.trainer.iteration, "validation")
        began, batches = time.perf_counter(), self.config.run.eval_iters
        try:
            look = Looks(self.stopper, self.ranks)
            found = self.trainer.evaluate(self.valid_feed, batches, look)
        except BrokenOff as stop:
            text = f"the validation was broken off after {stop.batches} of {batches} batches"
            last = self.trainer.iteration == self.config.training.train_iters
            self._broken_off = f"{stop.reason}; {text}" + (", LOAD makes it" if last else "")
            record["event"] = "; ".join(filter(None, [record.get("event"), text]))
            return
        self.validation_loss = found.loss
        if math.isnan(found.loss) and not any(map(math.isnan, found.by_position.values())):
            self._nothing_counts("the validation", "it has no loss")
        record |= {"validation_loss": found.loss, **found.by_position}
        record["validation_seconds"] = time.perf_counter() - began

    def save(self) -> None:
        """Begin to write a checkpoint of this iteration, if a folder was named for it."""
        self.watch.at(self.trainer.iteration, "save")
        if self.config.run.save and self.ranks.largest(int(not are_finite(self.trainer.model))):
            raise BadNumbers(
                f"the weights after iteration {self.trainer.iteration} are not finite numbers, so"
                f" they were not saved; {self.kept.tell_last()}: a smaller --lr (LR), or a longer"
                " warm-up"
            )
        self.kept.save(self.trainer.progress(), self.spikes.state())

    def close(self, exit_code: int) -> None:
        """End what this rank started, whatever happened before."""
        self.trainer.close()
        self.kept.close()
        self.announcer.close(exit_code)
