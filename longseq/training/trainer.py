"""A training that one drives: device, mesh, network, engine and step, and nothing around them.

    with Trainer(config, vocabulary=data.vocab_size) as trainer:
        feed = Feed(data.train, config, trainer.mesh, trainer.device)
        while trainer.iteration < config.training.train_iters:
            result = trainer.step(feed.step(trainer.consumed_samples))
            print(trainer.iteration, result.loss, result.grad_norm)

Data, screens, folders, signals and checkpoints are wrapped around it by loop.py; scoring, planning,
benchmarks and tests drive the same one. A step is `forward_backward`, then `update`; it reads its
loss and norm back from the device at its end only, so that it also runs on fake tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from longseq.config.arguments import Config
from longseq.engine import nvme
from longseq.engine.distributed import make_deterministic, pick_device, start_distributed
from longseq.engine.engine import build_model, make_engine
from longseq.engine.memory_budget import choose_recompute_policy
from longseq.engine.optimizer import learning_rate, set_learning_rate
from longseq.engine.update_guard import hold_updates, was_left_out
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.model.gpt import GPT
from longseq.parallel.agreement import torch_ranks
from longseq.parallel.collectives import all_reduce
from longseq.parallel.mesh import Mesh
from longseq.training.feed import Feed, MicroBatch
from longseq.training.parts import Parts
from longseq.training.positions import Places


class Coming:
    """A scalar on its way to the host: reading it waits for no work that was given later.

    The loss is read after the update was given, which the next step's first kernels then follow at
    once.
    """

    def __init__(self, scalar: Tensor) -> None:
        self._host = scalar.detach()
        self._there: Any = None
        if scalar.is_cuda:
            self._host = torch.empty((), dtype=scalar.dtype, pin_memory=True)
            self._host.copy_(scalar.detach(), non_blocking=True)
            self._there = torch.cuda.Event()
            self._there.record()

    def value(self) -> float:
        """The number, as soon as it is there."""
        if self._there:
            self._there.synchronize()
        return float(self._host)


@dataclass(frozen=True)
class StepResult:
    """Mean loss of a token, norm of the whole gradient before clipping, and the rate it had.

    updated: whether the weights changed; not after an overflow in fp16, or where `guard` refused.
    """

    loss: float
    grad_norm: float
    learning_rate: float
    updated: bool = True


@dataclass(frozen=True)
class Evaluation:
    """Mean loss of a token, and the means by place in the sequence (positions.py).

    nan where no token counts.
    """

    loss: float
    by_position: dict[str, float]


class Trainer:
    """One rank's network and engine, and how far they are; every rank makes it and calls it alike.

    `consumed_samples` is the position in the data: the samples of all steps so far, whatever batch
    each of them had. `consumed_tokens` counts the same in tokens.
    """

    def __init__(
        self,
        config: Config,
        vocabulary: int,
        device: torch.device | None = None,
        policy: RecomputePolicy | None = None,
    ) -> None:
        """Starts torch.distributed where it does not run yet.

        device: None: as --device says. policy of recomputation: None: as the flags say, or what
        fits into this rank's memory. Raises UserError for what this machine cannot do.
        """
        self.device = device or pick_device(config)
        training = replace(config.training, device=self.device.type)  # what auto came to
        self.config = config = replace(config, training=training)
        if config.training.deterministic_mode:
            make_deterministic()
        start_distributed(self.device)
        self.mesh = Mesh.create(config.layout)
        self.ranks = torch_ranks()
        self.policy = policy or choose_recompute_policy(config, vocabulary, self.device, self.ranks)
        self.model: GPT = build_model(config, self.mesh, vocabulary, self.device, self.policy)
        self.engine: Any = make_engine(config, self.mesh, self.model)
        self.iteration = self.consumed_samples = self.consumed_tokens = 0
        self._loss = Coming(torch.zeros(()))
        self.parts = Parts(self.device)

    def step(
        self, batches: Iterable[MicroBatch], meanwhile: Callable[[], None] = lambda: None
    ) -> StepResult:
        """One iteration on this rank's micro batches.

        meanwhile: called when forward and backward are under way on a GPU, which nothing waits for
        before it returns.
        """
        self.parts.begin()
        loss = self._loss = Coming(self.forward_backward(batches))
        meanwhile()
        rate = self.update()
        self.parts.ended("update")
        norm = float(self.engine.get_global_grad_norm())
        return StepResult(loss.value(), norm, rate, not was_left_out(self.engine))

    def guard(self, may_update: Callable[[float, float], bool]) -> None:
        """Ask `may_update(loss, grad_norm)` before each update of `step`; False: it is left out."""
        hold_updates(self.engine, may_update, lambda: self._loss.value())

    def forward_backward(self, batches: Iterable[MicroBatch]) -> Tensor:
        """Accumulate the gradients of a global batch; returns its mean loss of a token, a scalar.

        The batch counts as consumed. Raises ValueError unless there are as many micro batches as
        the engine accumulates.
        """
        config, losses = self.config, []
        # What dropout depends on: no two forward passes have the same number, but after a resume
        # with another batch or layout, where one may come again, of other samples
        first = self.consumed_samples // (config.training.micro_batch_size * self.mesh.dp.size)
        for number, batch in enumerate(batches):
            self.parts.ended("data")
            if number:
                self.engine.step()  # which counts micro batches; the last one is left to `update`
            loss = _loss(self.engine, batch, first + number)
            self.parts.ended("forward")
            self.engine.backward(loss)
            self.parts.ended("backward")
            losses.append(loss.detach())
            self.consumed_tokens += batch.tokens.numel() * self.mesh.replicas.size
        if len(losses) != config.accumulation:
            raise ValueError(f"{len(losses)} micro batches, but a step has {config.accumulation}")
        self.consumed_samples += config.global_batch_size
        return self._mean(sum(losses[1:], losses[0]), len(losses))

    def update(self) -> float:
        """Average, clip and apply the accumulated gradients; returns the learning rate."""
        self.iteration += 1
        rate = learning_rate(self.iteration, self.config.training)
        set_learning_rate(self.engine.optimizer, rate)
        self.engine.step()
        return rate

    @torch.no_grad()
    def evaluate(
        self,
        feed: Feed,
        batches: int,
        look: Callable[[int, Callable[[], object]], None] = lambda *_: None,
    ) -> Evaluation:
        """Of the first `batches` global batches of `feed`, without dropout; a collective.

        look: called before each with its number, and with what waits for those before it; what it
        raises ends the evaluation.
        """
        length = self.config.network.seq_length
        places = Places(feed.spans(length), length, self.device)
        self.engine.eval()
        total, count = (torch.zeros((), dtype=torch.float64, device=self.device) for _ in range(2))
        try:
            for number in range(batches):
                look(number, total.item)
                for batch in feed.judged(number * self.config.global_batch_size):
                    losses = self.model(
                        batch.tokens, batch.labels, None, batch.positions, batch.documents
                    )
                    counts = batch.mask.t()
                    total += (losses * counts).sum()
                    count += counts.sum()
                    places.add(losses, counts)
        finally:
            self.engine.train()
        loss, counted = all_reduce(torch.stack((total, count)), self.mesh.replicas).tolist()
        return Evaluation(loss / counted if counted else math.nan, places.means(self.mesh.replicas))

    def _mean(self, loss: Tensor, passes: int) -> Tensor:
        """Over all tokens, a scalar, from each rank's sum over `passes` micro batches."""
        return all_reduce(loss / (passes * self.mesh.replicas.size), self.mesh.replicas)

    def progress(self) -> dict[str, int]:
        """How far this training is, as a checkpoint keeps it."""
        return {
            "iteration": self.iteration,
            "consumed_samples": self.consumed_samples,
            "consumed_tokens": self.consumed_tokens,
        }

    def resume(self, progress: Mapping[str, int]) -> None:
        """Go on from there; the engine has loaded what belongs to it."""
        self.iteration = progress["iteration"]
        self.consumed_samples = progress["consumed_samples"]
        self.consumed_tokens = progress["consumed_tokens"]

    def close(self) -> None:
        """Let go of the engine and of its files; torch.distributed goes on."""
        try:
            self.engine.destroy()
        finally:
            nvme.release()

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _loss(model: Any, batch: MicroBatch, forward_pass: int) -> Tensor:
    """This rank's part of the mean loss, a scalar; `model` is the network or its engine."""
    loss: Tensor = model(
        batch.tokens, batch.labels, batch.weights, batch.positions, batch.documents, forward_pass
    )
    return loss
