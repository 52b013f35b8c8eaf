"""A rank of a run of any size, its real Trainer, and one step of it without memory.

    found = simulate(config, vocabulary, policy, on_gpu=True)
    found.peak.total, found.messages, found.flops

The second step is looked at: the first one makes what the optimizer keeps. A sample is one
document.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from longseq.config.arguments import Config, Memory, Training
from longseq.errors import UserError
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.model.gpt import GPT
from longseq.parallel.mesh import Mesh
from longseq.planning.simulate.layers import thin_layers, thin_tiles
from longseq.planning.simulate.shapes import META
from longseq.planning.simulate.trace import Count, Moment, Trace
from longseq.planning.simulate.world import a_rank_of, host_apart
from longseq.training.feed import MicroBatch
from longseq.training.trainer import Trainer

PASSES = 2  # micro batches of a step that are run: the first stands for all but the last
STEPS = 2
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Simulation:
    """One step of rank 0. Bytes, FLOPs and messages are this rank's.

    moments: memory over the step, at operations counted from its beginning; phases: where each
    begins. messages: by axis and sort. standing_in: layers that are like others and were not run.
    """

    peak: Moment
    moments: list[Moment]
    phases: list[tuple[int, str]]
    host_bytes: int
    messages: dict[tuple[str, str], Count]
    flops: Counter[str]
    operations: int
    standing_in: int


def simulate(
    config: Config,
    vocabulary: int,
    policy: RecomputePolicy,
    on_gpu: bool,
    progress: Progress = lambda done, total: None,
    thin: bool = True,
) -> Simulation:
    """A step of `config` on rank 0; `thin`: layers and tiles that are like others stand in.

    progress(done, total) is called now and then, in layers. Raises UserError for what only a
    machine can do.
    """
    check(config)
    os.environ["DS_ACCELERATOR"] = "cpu"  # whatever this machine has
    import deepspeed  # noqa: F401  # it makes tensors when it is imported

    passes = min(config.accumulation, PASSES)
    few = replace(config, memory=_any_flash(config.memory), training=_with_passes(config, passes))
    trace = Trace(on_gpu)
    with a_rank_of(few, on_gpu), trace, host_apart(trace.is_on_host):
        driver = Trainer(few, vocabulary, META, policy)
        trace.axes = axis_names(driver.mesh)
        _label_states(driver, trace)
        standing_in = _prepare(driver.model, trace, policy, thin)
        count = _Count(progress, STEPS * passes * len(driver.model.layers))
        for layer in driver.model.layers:
            layer.register_forward_pre_hook(lambda *_: count.one())
        for _ in range(STEPS):
            trace.restart()
            if thin:
                with thin_tiles(trace):
                    driver.forward_backward(_batches(few, trace, config.accumulation))
            else:
                driver.forward_backward(_batches(few, trace, config.accumulation))
            trace.enter("update")
            driver.update()
        return Simulation(
            trace.peak,
            trace.moments,
            trace.phases,
            trace.host_peak,
            trace.messages,
            trace.flops,
            trace.operations - trace.began,
            standing_in,
        )


def check(config: Config) -> None:
    """Raise UserError for what is no tensor's: files."""
    train = config.training
    if "nvme" in (train.offload_optimizer, train.remote_device):
        raise UserError(
            "simulate has no files: leave out --nvme-optimizer and --remote-device nvme"
        )


def _any_flash(memory: Memory) -> Memory:
    """Flash kernels hold the same tensors: torch's stands for all of them."""
    return memory if memory.kernel == "core" else replace(memory, chosen="sdpa")


def _with_passes(config: Config, passes: int) -> Training:
    """So many micro batches, and what is written: compiled code keeps no more than that."""
    size = config.training.micro_batch_size * config.layout.dp
    return replace(config.training, global_batch_size=passes * size, compile="off")


def axis_names(mesh: Mesh) -> dict[str, str]:
    """The name of each process group → of its axis."""
    groups = (mesh.tp, mesh.ulysses, mesh.ring, mesh.dp, mesh.replicas)
    return {group.handle.group_name: group.name for group in groups if group.handle is not None}


def _label_states(driver: Trainer, trace: Trace) -> None:
    """What is there before the first step, where it is not the optimizer's own."""
    for parameter in driver.model.parameters():
        trace.label(parameter.data, "weights")
        trace.label(getattr(parameter, "ds_tensor", None), "weights")
    engine = driver.engine.optimizer
    for group in getattr(engine, "round_robin_bit16_meta", []):
        for shape in group:  # on the meta device in training too
            trace.forget(shape)
    trace.label(getattr(engine, "grad_partitions_flat_buffer", None), "gradients")  # stage 3's


def _prepare(model: GPT, trace: Trace, policy: RecomputePolicy, thin: bool) -> int:
    """Tell `trace` what are gradients and which phase runs; returns layers standing in."""
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: trace.label(p.grad, "gradients"))
    model.register_forward_pre_hook(lambda *_: trace.enter("forward"))
    model.head.register_forward_pre_hook(lambda *_: trace.enter("head"))
    model.register_forward_hook(lambda *_: trace.enter("backward"))
    layers = list(model.layers)
    if not thin or (policy.method == "uniform" and policy.layers > 1):
        for layer in layers:
            thin_layers([layer], trace)
        return 0
    first = policy.layers if policy.method == "block" else len(layers)
    here = not policy.inputs_on_host
    return thin_layers(layers[:first], trace, here) + thin_layers(layers[first:], trace)


def _batches(config: Config, trace: Trace, accumulation: int) -> Iterator[MicroBatch]:
    """The micro batches that are run, each said to stand for as many as it does."""
    b, axes = config.training.micro_batch_size, config.layout
    s = config.network.seq_length // axes.sequence_ranks
    for number in range(config.accumulation):
        last = number == config.accumulation - 1
        trace.enter("batch")
        trace.of_passes(1 if last else accumulation - config.accumulation + 1)
        tokens = torch.empty(b, s, dtype=torch.int64, device=META)
        positions = torch.empty(1, s, dtype=torch.int64, device=META)
        weights = torch.empty(b, s, device=META)
        yield MicroBatch(tokens, torch.empty_like(tokens), weights, positions, None)


class _Count:
    """Layers that have begun, told to `progress`."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def one(self) -> None:
        self.done += 1
        self.progress(self.done, self.total)
