"""What a training tells people: on the screen, in its log, in its files and on its page.

    announcer = Announcer(config, data, trainer, kept, held)      # when it has resumed
    announcer.began()
    announcer.screen.iteration(record); announcer.tracker.log(record)
    announcer.ended(exit_code, losses, validation_loss, since)     # or failed(error)

Every rank makes one and calls it alike; rank 0's is seen and writes the files.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from longseq.attention.kernel import Documents
from longseq.checkpoint.run_checkpoints import RunCheckpoints
from longseq.config.arguments import Config
from longseq.config.kernels import why_chosen
from longseq.data.held_out import write_held_out
from longseq.data.opening import TrainingData
from longseq.engine.network.compile import what_compiles
from longseq.errors import EXIT_DONE, EXIT_NO_ROOM, UserError
from longseq.host.affinity import Place, complaints, pci_address, where
from longseq.host.atomic_files import gone
from longseq.host.host_memory import available_gib, capacity_bytes, peak_memory_gib
from longseq.reports.format import duration
from longseq.reports.page import write_page
from longseq.reports.runs import DONE, FAILED, RUNNING, STOPPED, read_run
from longseq.run import throughput
from longseq.run.environment import git_state, write_environment
from longseq.run.folder import told_if_full
from longseq.run.peak import HeldToPlan, Peak
from longseq.run.safety.failure import is_out_of_memory, out_of_memory, record_failure
from longseq.run.screen import Screen, terminal_width
from longseq.run.summary import baselines, closing_rows, opening_rows, write_summary
from longseq.run.tracking import Tracker, open_tracker
from longseq.training.facts import data_facts, memory_facts
from longseq.training.losses import Losses
from longseq.training.trainer import Trainer


class Announcer:
    """A training's screen, tracker and folder, and what is said there."""

    def __init__(
        self,
        config: Config,
        data: TrainingData,
        trainer: Trainer,
        kept: RunCheckpoints,
        held: HeldToPlan,
    ) -> None:
        """Says already where a rank runs badly placed.

        held: made before the network was there.
        """
        self.config, self.data, self.trainer, self.kept = config, data, trainer, kept
        self.held = held
        self.peak: Peak | None = None
        self.ranks = trainer.ranks
        self.folder = Path(config.run.run_dir) if config.run.run_dir else None
        self.screen = Screen(
            rank=self.ranks.rank,
            total=config.training.train_iters,
            start=trainer.iteration,
            log_interval=config.run.log_interval,
            width=terminal_width(),
        )
        device = trainer.device
        places = self.ranks.gather(where(pci_address(device) if device.type == "cuda" else ""))
        self._restart = os.environ.get("LONGSEQ_RESTART", "")  # ALCF/again.sh: without which host
        slow = slow_precision(config.training.dtype, device)
        for line in filter(None, [*complaints(places), slow, self._restart]):
            self.screen.warn(line)
        hosts = list(dict.fromkeys(place.host for place in places))
        self.marks: dict[str, Any] = baselines(data) if self.ranks.rank == 0 else {}
        self.facts = self._facts(places) if self.ranks.rank == 0 else {}
        if self.folder and self.ranks.rank == 0:
            what = {"ranks": [asdict(place) for place in places]}
            write_environment(self.folder, hosts, **what, restart=self._restart)
            with told_if_full(self.folder):
                write_held_out(self.folder / "held_out.tsv", data.cuts)
        self.tracker = self._tracker(hosts)

    def _facts(self, places: list[Place]) -> dict[str, Any]:
        """What the report tells of memory and data, and why what was chosen was."""
        trainer = self.trainer
        if trainer.device.type == "cuda":
            capacity = torch.cuda.mem_get_info(trainer.device)[1]
        else:
            neighbours = [place for place in places if place.host == places[0].host]
            capacity = capacity_bytes() // len(neighbours)
        device, policy = trainer.device.type, trainer.policy
        return {
            "memory": memory_facts(self.config, self.data.vocab_size, policy, device, capacity),
            "data": data_facts(self.data),
            "reasons": {"attention": why_chosen(self.config)},
        }

    def _tracker(self, hosts: list[str]) -> Tracker:
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
            settings=self._settings(hosts) if self.ranks.rank == 0 else {},
        )

    def _settings(self, hosts: list[str]) -> dict[str, Any]:
        """What is shown beside a W&B run."""
        flags = {k: v for part in asdict(self.config).values() for k, v in part.items()}
        network, commit = self.config.network, git_state()
        return flags | {
            "parameters": network.parameter_count(network.padded_vocabulary(self.data.vocab_size)),
            "commit": commit["id"] if commit else None,
            "hosts": hosts,
            **self.marks,
        }

    @property
    def _told(self) -> dict[str, Any]:
        return self.marks | self.facts

    def began(self) -> None:
        """What runs, before its first iteration."""
        trainer = self.trainer
        self.opening = opening_rows(
            self.config,
            self.data,
            trainer.device.type,
            trainer.iteration,
            recompute=trainer.policy.describe(),
            compiled=what_compiles(self.config, trainer.policy, trainer.device),
            notes=self.kept.notes,
        )
        self.screen.opening("longseq", self.opening)
        if self.folder and self.ranks.rank == 0:
            with told_if_full(self.folder):
                write_summary(self.folder, self.config, self._told, RUNNING, self.opening, [])

    def rates(self, ends: list[Documents], length: int, seconds: float) -> throughput.Rates:
        """Tokens and FLOPS a second of an iteration with samples of `length` tokens; `ends` of the
        documents of each micro batch.
        """
        config, policy = self.config, self.trainer.policy
        documents = None
        if config.data.reset_attention_mask:  # this rank's documents stand for all ranks'
            rows = [row for batch in ends for row in batch or ()]
            documents = [n for row in rows for n in throughput.document_lengths(row, length)]
            documents = documents * config.layout.dp
        return throughput.rates(
            config.network,
            self.data.vocab_size,
            batch=config.global_batch_size,
            seq_length=length,
            ranks=config.layout.world_size,
            more=throughput.again(policy.recompute, policy.part(config.network.num_layers)),
            seconds=seconds,
            documents=documents,
        )

    def peak_memory(self, length: int) -> dict[str, float]:
        """Say once how much the first steps took, beside what was planned; what to record of it."""
        peak = self.held.after(length, self.trainer.policy, self.kept.copies)
        if peak is None:
            return {}
        self.peak = peak
        if peak.warning:
            self.screen.warn(peak.warning)
        else:
            self.screen.note(f"peak memory {peak.line}")
        return peak.record

    def restarted(self) -> list[str]:
        """For the record of the first iteration: why this run goes on without a host."""
        said, self._restart = self._restart, ""
        return [said] if said else []

    def saved(self, figures: dict[str, float]) -> None:
        """A checkpoint stands."""
        at, seconds = figures["checkpoint_iteration"], figures["checkpoint_seconds"]
        self.screen.note(f"checkpoint of iteration {at} saved in {seconds:.1f} s")

    def ended(
        self, exit_code: int, losses: Losses, validation_loss: float | None, since: float
    ) -> None:
        """The last lines: how it ended, where everything is, how to go on.

        since: time.monotonic() when the run began.
        """
        title = {EXIT_DONE: DONE, EXIT_NO_ROOM: FAILED}.get(exit_code, STOPPED)
        told = self._told | ({"reason": self.kept.lack} if title == FAILED else {})
        took = duration(time.monotonic() - since)
        told_loss = losses.recent(self.config) if losses.own and self.ranks.rank == 0 else []
        rows = closing_rows(
            self.config, self.marks, told_loss, validation_loss, self.kept.newest, exit_code
        )
        if self.peak:
            rows.append(("peak memory", self.peak.line))
        self.screen.closing(f"{title} after {took}", rows)
        if self.folder and self.ranks.rank == 0:
            try:
                write_summary(self.folder, self.config, told, title, self.opening, rows)
                if losses.own:  # none where all iterations were done before
                    write_page(read_run(self.folder))
            except Exception as error:  # a full disk, a library: what has ended well stays so
                text = f"the report could not be written: {error}"
                if not self.folder.is_dir():
                    text = f"no summary says how it ended, and no report: {gone(self.folder)}"
                self.screen.warn(text)

    def failed(self, error: Exception) -> None:
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
            self.kept.copies,
        )
        raise UserError(line) from error

    def close(self, exit_code: int) -> None:
        """Let go of tracker and screen."""
        self.tracker.close(exit_code)
        self.screen.close()


def slow_precision(dtype: str, device: torch.device) -> str:
    """What to say of bf16 on a CPU that has no instructions for it; measured without AVX-512:
    torch's products take 4 to 90 times those of fp32 (2048 x 512 by 512 x 2048, one thread).
    """
    if (
        device.type == "cpu"
        and dtype == "bf16"
        and torch.backends.cpu.get_cpu_capability() == "AVX2"
    ):
        return (
            "DTYPE=bf16: this CPU has no AVX-512, without which matrix products in bf16 take many"
            " times those in fp32; DTYPE=fp32 is faster here"
        )
    return ""
