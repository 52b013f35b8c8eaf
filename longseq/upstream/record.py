"""Its losses, norms and times → our screen, metrics.jsonl, TensorBoard and W&B; and when to stop.

    recorder = Recorder(config, watch, data, ranks, device, screen)
    recorder.listen(training)     # its module megatron.training
    …its pretrain()…              # raises Stopped where the run has to end early
    recorder.close(code)

Its module calls its functions by their names, so that ours stand around them; what it prints goes
into the rank's log as before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from longseq.config.arguments import Config
from longseq.data.opening import TrainingData
from longseq.host.host_memory import peak_memory_gib
from longseq.parallel.agreement import Ranks
from longseq.run.safety.watch import Watch
from longseq.run.screen import Screen
from longseq.run.summary import Rows, baselines
from longseq.run.throughput import again, rates
from longseq.run.tracking import Tracker, open_tracker
from longseq.training.losses import Losses
from longseq.upstream.arguments import recomputes_all

LOSS = "lm loss"  # its name


class Stopped(Exception):
    """The run was told to end, and has saved."""


class Recorder:
    """What is known of the training so far, on this rank; rank 0 shows and writes it."""

    def __init__(
        self,
        config: Config,
        watch: Watch,
        data: TrainingData,
        ranks: Ranks,
        device: str,
        screen: Screen,
    ) -> None:
        self.config, self.watch, self.data, self.ranks = config, watch, data, ranks
        self.device, self.screen = device, screen
        self.tracker = Tracker(screen.warn)
        self.iteration, self.saved = 0, 0
        self.losses = Losses(0)
        self.validation_loss: float | None = None
        self._began = self._rate = 0.0
        self._norm: float | None = None
        self._training: Any = None
        self._validated = 0.0  # seconds of the longest validation
        self.marks = baselines(data) if ranks.rank == 0 else {}
        self.opening: Rows = []
        self._made: tuple[Any, Any, Any] = (None, None, None)  # model, optimizer, schedule

    def listen(self, training: Any) -> None:
        """Stand around those functions of its module that tell how far it is."""
        self._training = training
        for name, ours in (
            ("setup_model_and_optimizer", self._set_up),
            ("train_step", self._step),
            ("training_log", self._log),
            ("evaluate", self._evaluate),
            ("save_checkpoint", self._save),
        ):
            setattr(training, name, _around(getattr(training, name), ours))
        # In fp32 at ZeRO stage 0 DeepSpeed clips by this, and forgets the norm
        engine: Any = import_module("deepspeed.runtime.engine")
        engine.clip_grad_norm_ = _around(engine.clip_grad_norm_, self._clip)

    def close(self, exit_code: int) -> None:
        self.tracker.close(exit_code)
        self.screen.close()

    def _set_up(self, theirs: Any, *args: Any, **more: Any) -> Any:
        """From here on it is known which iteration a checkpoint held."""
        self._made = theirs(*args, **more)
        run = self.config.run
        self.iteration = self._training.get_args().iteration
        self.losses = Losses(self.iteration)
        if run.run_dir:
            self.tracker = open_tracker(
                Path(run.run_dir),
                self.screen.warn,
                rank=self.ranks.rank,
                resume_after=self.iteration,
                tensorboard=Path(run.tensorboard_dir) if run.tensorboard_dir else None,
                wandb_project=run.wandb_project or None,
                settings={k: v for part in asdict(self.config).values() for k, v in part.items()},
            )
        return self._made

    def _step(self, theirs: Any, *args: Any, **more: Any) -> Any:
        engine = self._made[0][0]
        self.watch.at(self.iteration + 1, "step")
        self._began, self._rate = time.perf_counter(), float(engine.get_lr()[0])
        made = theirs(*args, **more)
        norm = engine.get_global_grad_norm()
        if norm is not None:
            self._norm = float(norm)
        return made

    def _clip(self, theirs: Any, *args: Any, **more: Any) -> Any:
        norm = theirs(*args, **more)
        self._norm = float(norm)
        return norm

    def _log(self, theirs: Any, losses: Any, *args: Any, **more: Any) -> Any:
        """One iteration is over: its record, and whether to go on."""
        seconds = time.perf_counter() - self._began
        self.iteration = args[2]
        self.losses.add(float(losses[LOSS]))
        record = self._record(seconds)
        self.tracker.log(record)
        self.screen.iteration(record)
        made = theirs(losses, *args, **more)
        if reason := self.watch.stopper.should_stop(self.ranks, self._until_next_look()):
            self.screen.note(f"stopping after iteration {self.iteration}: {reason}")
            if self.config.run.save:
                self._training.save_checkpoint(self.iteration, *self._made)
            raise Stopped
        return made

    def _until_next_look(self) -> float:
        """Seconds of what comes: a step, and the validation before it, which nothing breaks off."""
        every, step = self.config.run.eval_interval, self.watch.stopper.longest_step
        return step + (self._validated if every and self.iteration % every == 0 else 0.0)

    def _record(self, seconds: float) -> dict[str, Any]:
        config = self.config
        speed = rates(
            config.network,
            self.data.vocab_size,
            batch=config.global_batch_size,
            seq_length=config.network.seq_length,
            ranks=config.layout.world_size,
            more=again("full" if recomputes_all(config) else config.memory.recompute_granularity),
            seconds=seconds,
        )
        return {
            "iteration": self.iteration,
            "consumed_tokens": self._training.get_args().consumed_train_tokens,
            "sequence_length": config.network.seq_length,
            "lm_loss": self.losses.own[-1],
            "grad_norm": self._norm,
            "learning_rate": self._rate,
            "iteration_time": seconds,
            **asdict(speed),
            "peak_memory_gib": peak_memory_gib(self.device),
        }

    def _evaluate(self, theirs: Any, *args: Any, **more: Any) -> Any:
        self.watch.at(self.iteration, "validation")
        began = time.monotonic()
        losses, rest = theirs(*args, **more)
        self._validated = max(self._validated, time.monotonic() - began)
        # Only the last stage of a pipeline is given it
        found = self.ranks.gather(float(losses[LOSS]) if LOSS in losses else None)
        if found[-1] is not None:
            self.validation_loss = found[-1]
            self.tracker.add_to_last({"validation_loss": self.validation_loss})
            self.screen.note(f"validation loss {self.validation_loss:.4f}")
        return losses, rest

    def _save(self, theirs: Any, iteration: int, *args: Any, **more: Any) -> None:
        if iteration == self.saved:  # it saves the last one twice
            return
        self.watch.at(iteration, "save")
        began = time.monotonic()
        theirs(iteration, *args, **more)
        seconds = time.monotonic() - began
        self.watch.stopper.saved_in(seconds)
        self.saved = iteration
        self.screen.note(f"checkpoint of iteration {iteration} saved in {seconds:.1f} s")


def _around(theirs: Any, ours: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **more: ours(theirs, *args, **more)
