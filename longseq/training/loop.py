"""A training from its first to its last iteration, on every rank.

    exit_code = train(config)

Reads top to bottom: set up, resume, step after step, validate, save, say how it ended.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from longseq.checkpoint.run_checkpoints import RunCheckpoints
from longseq.config.arguments import Config
from longseq.data.opening import open_data
from longseq.data.samples.curriculum import curriculum_of
from longseq.engine import nvme
from longseq.engine.engine import build_model, make_engine, pick_device, start_distributed
from longseq.engine.memory_budget import choose_recompute_policy
from longseq.engine.optimizer import learning_rate, set_learning_rate
from longseq.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED_EARLY, UserError
from longseq.host.host_memory import peak_memory_gib
from longseq.parallel.agreement import torch_ranks
from longseq.parallel.mesh import Mesh
from longseq.reports.format import duration
from longseq.reports.page import write_page
from longseq.run.folder import write_environment
from longseq.run.screen import Screen, open_log, terminal_width
from longseq.run.stopping import Stopper, end_time
from longseq.run.summary import closing_rows, opening_rows, write_summary
from longseq.run.throughput import Shape, document_lengths, rates
from longseq.run.tracking import open_tracker
from longseq.training.feed import Feed
from longseq.training.steps import forward_backward_step, mean_over_replicas, validate


class Training:
    """One rank's training: what it was set up with, and how far it is."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stopper = Stopper(end_time(os.environ))
        self.stopper.install()
        self.device = pick_device(config)
        start_distributed(self.device)
        self.mesh = Mesh.create(config.layout)
        self.ranks = torch_ranks()
        self.folder = Path(config.run.run_dir) if config.run.run_dir else None
        if self.folder:
            open_log(self.folder, self.ranks.rank)
        self.data = open_data(config.data, config.network.seq_length, config.training.seed)
        self.train_feed = self._feed("train")
        self.valid_feed = self._feed("valid") if config.run.eval_iters else None
        self.savings = choose_recompute_policy(
            config, self.data.vocab_size, self.device, self.ranks
        )
        model = build_model(config, self.mesh, self.data.vocab_size, self.device, self.savings)
        self.engine = make_engine(config, self.mesh, model)
        self.validation_loss: float | None = None
        self.last_loss = math.nan
        self.kept = RunCheckpoints(config, self.data, self.ranks)
        self.iteration = self.kept.load(self.engine, self._warn_early)
        self.lengths = curriculum_of(config)
        self.consumed_tokens = config.global_batch_size * self.lengths.tokens(self.iteration)
        self.screen = Screen(
            rank=self.ranks.rank,
            total=config.training.train_iters,
            start=self.iteration,
            log_interval=config.run.log_interval,
            width=terminal_width(),
        )
        self.tracker = self._tracker()
        hosts = self.ranks.gather(socket.gethostname())
        if self.folder and self.ranks.rank == 0:
            write_environment(self.folder, list(dict.fromkeys(hosts)))

    def _feed(self, split: str) -> Feed:
        samples = getattr(self.data, split)
        if samples is None:
            raise UserError(
                f"--split {self.config.data.split} leaves nothing for {split}: give it a weight"
                + (", or --eval-iters 0" if split == "valid" else "")
            )
        return Feed(samples, self.config, self.mesh, self.device)

    def _tracker(self) -> Any:
        if self.folder is None:
            return open_tracker(Path(os.devnull), self.screen.warn, rank=1)
        run = self.config.run
        return open_tracker(
            self.folder,
            self.screen.warn,
            rank=self.ranks.rank,
            resume_after=self.iteration,
            tensorboard=Path(run.tensorboard_dir) if run.tensorboard_dir else None,
            wandb_project=run.wandb_project or None,
            settings={k: v for part in asdict(self.config).values() for k, v in part.items()},
        )

    def _warn_early(self, text: str) -> None:
        """Say what is wrong before there is a screen: on the terminal and in the log."""
        logging.getLogger("longseq").warning("%s", text)
        print(f"longseq: warning: {text}", file=sys.stderr, flush=True)

    def save(self) -> None:
        """Write a checkpoint of this iteration, if a folder was named for it."""
        seconds = self.kept.save(self.engine, self.iteration)
        if seconds:
            self.stopper.saved_in(seconds)

    def run(self) -> int:
        """All iterations that are left; returns the exit code."""
        self.opening = opening_rows(
            self.config,
            self.data,
            self.device.type,
            self.iteration,
            savings=self.savings.describe(),
            note=self.kept.note,
        )
        self.screen.opening("longseq", self.opening)
        total, run = self.config.training.train_iters, self.config.run
        while self.iteration < total:
            record = self.train_step()
            due = run.eval_interval and self.iteration % run.eval_interval == 0
            if self.valid_feed and (due or self.iteration == total):
                self.validation_loss = validate(
                    self.engine, self.valid_feed, run.eval_iters, self.mesh
                )
                record["validation_loss"] = self.validation_loss
            self.tracker.log(record)
            self.screen.iteration(record)
            if run.save_interval and self.iteration % run.save_interval == 0:
                self.save()
            if reason := self.stopper.should_stop(self.ranks):
                self.screen.note(f"stopping after iteration {self.iteration}: {reason}")
                break
        self.save()
        if self.iteration >= total:
            return EXIT_DONE
        return EXIT_STOPPED_EARLY if self.kept.newest else EXIT_FAILED

    def train_step(self) -> dict[str, Any]:
        """One iteration; its record for the screen and the files."""
        began = time.perf_counter()
        config, train = self.config, self.config.training
        self.iteration += 1
        rate = learning_rate(self.iteration, train)
        set_learning_rate(self.engine.optimizer, rate)
        done = (self.iteration - 1) * config.global_batch_size
        length = self.lengths.length(self.iteration - 1)
        batches = list(self.train_feed.step(done, length))
        loss = forward_backward_step(
            self.engine, batches, forward_pass=(self.iteration - 1) * config.accumulation
        )
        self.last_loss = float(mean_over_replicas(loss, config.accumulation, self.mesh))
        norm = float(self.engine.get_global_grad_norm())
        if not math.isfinite(self.last_loss):
            raise FloatingPointError(f"the loss of iteration {self.iteration} is {self.last_loss}")
        seconds = time.perf_counter() - began
        self.consumed_tokens += config.global_batch_size * length
        return {
            "iteration": self.iteration,
            "consumed_tokens": self.consumed_tokens,
            "sequence_length": length,
            "lm_loss": self.last_loss,
            "grad_norm": norm,
            "learning_rate": rate,
            "iteration_time": seconds,
            **asdict(self._rates(batches, length, seconds)),
            "peak_memory_gib": peak_memory_gib(self.device.type),
        }

    def _rates(self, batches: list[Any], length: int, seconds: float) -> Any:
        config, net = self.config, self.config.network
        documents = None
        if config.data.reset_attention_mask:  # this rank's documents stand for all ranks'
            rows = [row for batch in batches for row in batch.documents]
            documents = [n for row in rows for n in document_lengths(row, length)]
            documents = documents * config.layout.dp
        shape = Shape(
            net.num_layers,
            net.hidden_size,
            net.num_attention_heads,
            net.key_value_heads,
            net.ffn_size,
            net.padded_vocabulary(self.data.vocab_size),
            net.swiglu,
        )
        return rates(
            shape,
            batch=config.global_batch_size,
            seq_length=length,
            ranks=config.layout.world_size,
            recompute=self.savings.recompute == "full",
            seconds=seconds,
            documents=documents,
        )

    def closing(self, exit_code: int) -> None:
        """The last lines: how it ended, where everything is, how to go on."""
        title = "done" if exit_code == EXIT_DONE else "stopped early"
        took = duration(time.monotonic() - self.stopper.began)
        rows = closing_rows(
            self.config,
            self.data,
            self.last_loss,
            self.validation_loss,
            self.kept.newest,
            exit_code,
        )
        self.screen.closing(f"{title} after {took}", rows)
        if self.folder and self.ranks.rank == 0:
            write_summary(self.folder, self.config, self.data, self.opening, rows)
            write_page(self.folder)

    def close(self, exit_code: int) -> None:
        """End what this rank started, whatever happened before."""
        nvme.release()
        self.tracker.close(exit_code)
        self.screen.close()


def train(config: Config) -> int:
    """Train as `config` says; returns the exit code. Raises UserError before the first step."""
    training = Training(config)
    code = 1
    try:
        code = training.run()
        try:
            training.closing(code)
        except (OSError, UserError) as error:  # a full disk must not fail what has ended well
            training.screen.warn(f"the report could not be written: {error}")
    finally:
        training.close(code)
    return code
