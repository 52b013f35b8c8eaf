"""A training from its first to its last iteration, on every rank.

    exit_code = train(config, watch)

Reads top to bottom: set up, resume, step after step, validate, save, say how it ended. The step
itself is trainer.py's; here is what surrounds it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from longseq.checkpoint.run_checkpoints import RunCheckpoints
from longseq.config.arguments import Config
from longseq.data.held_out import write_held_out
from longseq.data.opening import TrainingData, open_data
from longseq.data.samples.curriculum import curriculum_of
from longseq.data.samples.samples import Samples
from longseq.engine.distributed import pick_device, start_distributed
from longseq.engine.engine import start_deepspeed
from longseq.engine.update_guard import are_finite
from longseq.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED_EARLY, UserError
from longseq.host.affinity import complaints, pci_address, where
from longseq.host.host_memory import available_gib, peak_memory_gib
from longseq.parallel.agreement import torch_ranks
from longseq.reports.format import duration
from longseq.reports.page import write_page
from longseq.reports.runs import DONE, RUNNING, STOPPED, read_run
from longseq.run.environment import write_environment
from longseq.run.peak import HeldToPlan, Peak
from longseq.run.safety.failure import is_out_of_memory, out_of_memory, record_failure
from longseq.run.safety.spikes import Spikes, Trouble
from longseq.run.safety.stragglers import Stragglers
from longseq.run.safety.watch import Watch
from longseq.run.screen import Screen, open_log, terminal_width
from longseq.run.summary import closing_rows, opening_rows, write_summary
from longseq.run.throughput import Rates, document_lengths, rates
from longseq.run.tracking import Tracker, open_tracker
from longseq.training.feed import Feed, MicroBatch
from longseq.training.rewind import Rewind
from longseq.training.trainer import Trainer


def train(config: Config, watch: Watch) -> int:
    """Train as `config` says; returns the exit code. Raises UserError before the first step."""
    training = Training(config, watch)
    code = EXIT_FAILED
    try:
        code = training.run()
        training.say_how_it_ended(code)
    except Exception as error:
        training.say_it_failed(error)
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
        self.folder = Path(config.run.run_dir) if config.run.run_dir else None
        if self.folder:
            open_log(self.folder, self.ranks.rank)

        self.data = open_data(config.data, config.network.seq_length, config.training.seed)
        train = _split(self.data, "train", config)
        valid = _split(self.data, "valid", config) if config.run.eval_iters else None
        start_deepspeed()  # what libraries hold is no part of the plan
        self.held = HeldToPlan(config, self.data.vocab_size, device.type)
        self.peak: Peak | None = None
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
        self.last_loss = math.nan
        self.validation_loss: float | None = None

        self.kept = RunCheckpoints(config, self.data, self.trainer.engine, mesh, self.ranks)
        if progress := self.kept.load(_warn_early):
            self.trainer.resume(progress)
        self.kept.claim(lambda text: self.screen.warn(text))
        self.screen = Screen(
            rank=self.ranks.rank,
            total=config.training.train_iters,
            start=self.trainer.iteration,
            log_interval=config.run.log_interval,
            width=terminal_width(),
        )
        self.tracker = self._tracker()
        self.rewind = Rewind(self.trainer, self.kept, self.spikes, self.tracker)
        places = self.ranks.gather(where(pci_address(device) if device.type == "cuda" else ""))
        for line in complaints(places):
            self.screen.warn(line)
        if self.folder and self.ranks.rank == 0:
            hosts = list(dict.fromkeys(place.host for place in places))
            write_environment(self.folder, hosts, ranks=[asdict(place) for place in places])
            write_held_out(self.folder / "held_out.tsv", self.data.cuts)

    def _tracker(self) -> Tracker:
        if self.folder is None:
            return Tracker(self.screen.warn)
        run = self.config.run
        return open_tracker(
            self.folder,
            self.screen.warn,
            rank=self.ranks.rank,
            resume_after=self.trainer.iteration,
            tensorboard=Path(run.tensorboard_dir) if run.tensorboard_dir else None,
            wandb_project=run.wandb_project or None,
            settings={k: v for part in asdict(self.config).values() for k, v in part.items()},
        )

    def run(self) -> int:
        """All iterations that are left; returns the exit code."""
        self._say_what_runs()
        total, run, trainer = self.config.training.train_iters, self.config.run, self.trainer
        while trainer.iteration < total:
            self.watch.at(trainer.iteration + 1, "step")
            record = self.step()
            if self.rewind.due:
                self._go_back(record)
                continue
            record |= self._look_for_stragglers(record["iteration_time"])
            if self._due(run.eval_interval) or trainer.iteration == total:
                record |= self.validate()
            if saved := self.kept.advance():
                self._say_saved(saved)
            self.tracker.log(record | saved)
            self.screen.iteration(record)
            if self._due(run.save_interval):
                self.save()
            if reason := self.stopper.should_stop(self.ranks):
                self.screen.note(f"stopping after iteration {trainer.iteration}: {reason}")
                break
        self.save()
        if saved := self.kept.finish():
            self.tracker.add_to_last(saved)
            self._say_saved(saved)
        if trainer.iteration >= total and self.kept.has(total):
            return EXIT_DONE
        return EXIT_STOPPED_EARLY if self.kept.newest else EXIT_FAILED

    def _due(self, interval: int) -> bool:
        return interval > 0 and self.trainer.iteration % interval == 0

    def _say_what_runs(self) -> None:
        trainer = self.trainer
        self.opening = opening_rows(
            self.config,
            self.data,
            trainer.device.type,
            trainer.iteration,
            recompute=trainer.policy.describe(),
            note=self.kept.note,
        )
        self.screen.opening("longseq", self.opening)
        if self.folder and self.ranks.rank == 0:
            write_summary(self.folder, self.config, self.data, RUNNING, self.opening, [])

    def step(self) -> dict[str, Any]:
        """One iteration; its record for the screen and the files."""
        began = time.perf_counter()
        trainer = self.trainer
        length = self.lengths.length(trainer.iteration)
        self.rewind.skip_left_out()
        batches = list(self.train_feed.step(trainer.consumed_samples, length))
        result = trainer.step(batches)
        self.last_loss = result.loss
        seconds = time.perf_counter() - began
        record = {
            "iteration": trainer.iteration,
            "consumed_tokens": trainer.consumed_tokens,
            "sequence_length": length,
            "lm_loss": result.loss,
            "grad_norm": result.grad_norm,
            "learning_rate": result.learning_rate,
            "iteration_time": seconds,
            **asdict(self._rates(batches, length, seconds)),
            "peak_memory_gib": peak_memory_gib(trainer.device.type),
            **self._hold_to_plan(length),
        }
        said = self.rewind.told()
        if self.spikes.trouble:
            said.append(self._act(self.spikes.trouble, record))
        return record | ({"event": "; ".join(said)} if said else {})

    def _look_for_stragglers(self, seconds: float) -> dict[str, Any]:
        """The slowest rank for the record, about once a minute."""
        found = self.stragglers.look(self.trainer.iteration, seconds)
        if self.stragglers.warning:
            self.screen.warn(self.stragglers.warning)
        return found

    def _hold_to_plan(self, length: int) -> dict[str, float]:
        """Say once how much memory the first steps took, beside what was planned."""
        peak = self.held.after(length, self.trainer.policy)
        if peak is None:
            return {}
        self.peak = peak
        if peak.warning:
            self.screen.warn(peak.warning)
        else:
            self.screen.note(f"peak memory {peak.line}")
        return peak.record

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
        rewinds = trouble.action == "rewind"
        text = f"{why}; {self.rewind.plan(why, first, last) if rewinds else done[trouble.action]}"
        record |= {"grad_norm": self.spikes.norm}
        if trouble.action == "stop":
            self.tracker.log(record | {"event": text})
            raise FloatingPointError(text)
        self.screen.warn(text)
        return text

    def _go_back(self, record: dict[str, Any]) -> None:
        """To the last checkpoint; the iterations after it leave metrics.jsonl and come again."""
        self.tracker.log(record)
        self.watch.at(self.trainer.iteration, "load")
        began = time.monotonic()
        self.screen.note(self.rewind.go(self.screen.warn))
        self.stopper.saved_in(0.0, time.monotonic() - began)

    def _rates(self, batches: list[MicroBatch], length: int, seconds: float) -> Rates:
        config = self.config
        documents = None
        if config.data.reset_attention_mask:  # this rank's documents stand for all ranks'
            rows = [row for batch in batches for row in batch.documents or ()]
            documents = [n for row in rows for n in document_lengths(row, length)]
            documents = documents * config.layout.dp
        return rates(
            config.network,
            self.data.vocab_size,
            batch=config.global_batch_size,
            seq_length=length,
            ranks=config.layout.world_size,
            recompute=self.trainer.policy.recompute == "full",
            seconds=seconds,
            documents=documents,
        )

    def validate(self) -> dict[str, float]:
        """The validation loss for the record, if there is validation."""
        if self.valid_feed is None:
            return {}
        self.watch.at(self.trainer.iteration, "validation")
        self.validation_loss = self.trainer.evaluate(self.valid_feed, self.config.run.eval_iters)
        return {"validation_loss": self.validation_loss}

    def save(self) -> None:
        """Begin to write a checkpoint of this iteration, if a folder was named for it."""
        self.watch.at(self.trainer.iteration, "save")
        if self.config.run.save and self.ranks.largest(int(not are_finite(self.trainer.model))):
            raise FloatingPointError(
                f"the weights after iteration {self.trainer.iteration} are not finite numbers, so"
                " they were not saved: a smaller --lr (LR), or a longer warm-up"
            )
        began = time.monotonic()
        self.kept.save(self.trainer.progress())
        self.stopper.saved_in(self.kept.seconds, time.monotonic() - began)

    def _say_saved(self, saved: dict[str, float]) -> None:
        at, seconds = saved["checkpoint_iteration"], saved["checkpoint_seconds"]
        self.screen.note(f"checkpoint of iteration {at} saved in {seconds:.1f} s")

    def say_how_it_ended(self, exit_code: int) -> None:
        """The last lines: how it ended, where everything is, how to go on."""
        title = DONE if exit_code == EXIT_DONE else STOPPED
        took = duration(time.monotonic() - self.stopper.began)
        rows = closing_rows(
            self.config,
            self.data,
            self.last_loss,
            self.validation_loss,
            self.kept.newest,
            exit_code,
        )
        if self.peak:
            rows.append(("peak memory", self.peak.line))
        self.screen.closing(f"{title} after {took}", rows)
        if self.folder and self.ranks.rank == 0:
            try:
                write_summary(self.folder, self.config, self.data, title, self.opening, rows)
                write_page(read_run(self.folder))
            except (OSError, UserError) as error:  # a full disk must not fail what has ended well
                self.screen.warn(f"the report could not be written: {error}")

    def say_it_failed(self, error: Exception) -> None:
        """Record it; where memory ran out, raise what was estimated, measured and helps instead."""
        if self.folder:
            with contextlib.suppress(OSError):  # a full disk may be the reason
                record_failure(self.folder, error)
        if not is_out_of_memory(error):
            return
        trainer, device = self.trainer, self.trainer.device.type
        line = out_of_memory(
            self.config,
            self.data.vocab_size,
            trainer.policy,
            trainer.iteration + 1,
            peak_memory_gib(device),
            available_gib(device),
        )
        raise UserError(line) from error

    def close(self, exit_code: int) -> None:
        """End what this rank started, whatever happened before."""
        self.trainer.close()
        self.kept.close()
        self.tracker.close(exit_code)
        self.screen.close()


def _split(data: TrainingData, name: str, config: Config) -> Samples:
    """The samples of one part of the data, which must have some."""
    samples: Samples | None = getattr(data, name)
    if samples is None:
        raise UserError(
            f"--split {config.data.split} leaves nothing for {name}: give it a weight"
            + (", or --eval-iters 0" if name == "valid" else "")
        )
    return samples


def _warn_early(text: str) -> None:
    """Say what is wrong before there is a screen: on the terminal and in the log."""
    logging.getLogger("longseq").warning("%s", text)
    print(f"longseq: warning: {text}", file=sys.stderr, flush=True)
