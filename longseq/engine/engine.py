"""From a checked configuration to a DeepSpeed engine around this rank's share of the network.

    mesh = Mesh.create(config.layout)            # torch.distributed is running (distributed.py)
    model = build_model(config, mesh, vocabulary, device, policy)
    engine = make_engine(config, mesh, model)

Ranks that share a sample (Ulysses, ring) are data parallel to DeepSpeed: it averages gradients over
them and partitions ZeRO over them, at every stage in the same way, and the loss of each is scaled
by their number. DeepSpeed's own sequence-parallel path scales the gradient by another factor at
stage 3 than at stages 0 to 2.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from longseq.attention.chunked import chunked
from longseq.attention.kernel import Kernel, kernel
from longseq.config.arguments import Config, Memory
from longseq.engine import nvme
from longseq.engine.ds_config import deepspeed_settings
from longseq.engine.loss_scale import change_after_update, scale_losses
from longseq.engine.network.compile import (
    compile_layers,
    in_one_piece,
    layers_together,
    wants_compiling,
)
from longseq.engine.network.gathered import keep_parameters
from longseq.engine.network.initialize import initialized_parameters
from longseq.engine.network.parallelize import parallelize
from longseq.engine.network.recompute import apply_recompute_policy
from longseq.engine.network.whole_rows import norm_whole_rows
from longseq.engine.optimizer import make_optimizer, parameter_groups
from longseq.engine.stage0 import BareOptimizer
from longseq.host import shared_memory
from longseq.host.uncompiled import load_compiler
from longseq.memory.allocator import give_back_large
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.model.gpt import GPT
from longseq.model.layers import Layer
from longseq.parallel.agreement import torch_ranks
from longseq.parallel.mesh import Group, Mesh

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class ModelParallelUnit:
    """The groups, under the names that DeepSpeed asks for; it wants the older ones too."""

    def __init__(self, mesh: Mesh) -> None:
        self._tp, self._dp = mesh.tp, mesh.replicas
        self._alone: dist.ProcessGroup | None = None

    def _handle(self, group: Group) -> dist.ProcessGroup | None:
        """The process group; DeepSpeed needs one for a group of one rank as well."""
        if group.handle is None and self._alone is None:
            for rank in range(dist.get_world_size()):
                made = dist.new_group([rank])
                if rank == dist.get_rank():
                    self._alone = made
        return group.handle or self._alone

    def get_model_parallel_rank(self) -> int:
        return self._tp.rank

    def get_model_parallel_world_size(self) -> int:
        return self._tp.size

    def get_model_parallel_group(self) -> dist.ProcessGroup | None:
        return self._handle(self._tp)

    get_tensor_model_parallel_rank = get_model_parallel_rank
    get_tensor_model_parallel_world_size = get_model_parallel_world_size
    get_tensor_model_parallel_group = get_model_parallel_group

    def get_data_parallel_rank(self) -> int:
        return self._dp.rank

    def get_data_parallel_world_size(self) -> int:
        return self._dp.size

    def get_data_parallel_group(self) -> dist.ProcessGroup | None:
        return self._handle(self._dp)


def attention_kernel(memory: Memory) -> Kernel:
    """The kernel that the flags name, in chunks where they ask for those."""
    if memory.ds_sequence_parallel_fpdt:
        size = memory.ds_sequence_parallel_fpdt_chunk_size
        return chunked(size, memory.ds_sequence_parallel_fpdt_offloading, memory.kernel)
    return kernel(memory.kernel)


def build_model(
    config: Config,
    mesh: Mesh,
    vocabulary: int,
    device: torch.device,
    policy: RecomputePolicy,
) -> GPT:
    """This rank's share of the network, with its first values, on `device`; `policy` recomputes."""
    with torch.device("meta"):
        model = GPT(
            config.network,
            vocabulary,
            attention_kernel(config.memory),
            config.training.seed,
        )
    parallelize(model, mesh, config.memory.kernel)
    if config.training.zero_stage == 3:
        keep_parameters(model)
    apply_recompute_policy(model, policy, mesh.tp.size if mesh.sequence_parallel else 1)
    if wants_compiling(config, device):
        norm_whole_rows()
        compile_layers(model, policy, in_one_piece(config), layers_together(config))
    if device.type == "cpu" and policy.recompute in ("full", "outside-attention"):
        give_back_large(hidden_bytes(config))
    dtype = DTYPES[config.training.dtype]
    values = initialized_parameters(model, config.network, config.training.seed, device, dtype)
    if config.training.zero_stage == 3:
        load_compiler()  # DeepSpeed is about to
        start_deepspeed()
        if nvme.wanted(config):
            share = sum(p.numel() for p in model.parameters()) // mesh.replicas.size
            disk = Path(config.training.nvme_path)
            nvme.check_all_disks(disk, nvme.bytes_kept(config, share), torch_ranks())
        _partition_as_initialized(values, mesh, engine_settings(config, model), dtype)
    for _ in values:
        pass
    return model


def hidden_bytes(config: Config) -> int:
    """Hidden states of all tokens that a rank holds between layers."""
    net, axes, train = config.network, config.layout, config.training
    size = DTYPES[train.dtype].itemsize
    return train.micro_batch_size * net.seq_length // axes.tokens_split * net.hidden_size * size


class _LazyParameters(nn.Module):
    """A module whose parameters come into being when they are asked for."""

    def __init__(self, values: Iterator[nn.Parameter]) -> None:
        super().__init__()
        self._values = values

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return self._values


def _partition_as_initialized(
    values: Iterator[nn.Parameter], mesh: Mesh, settings: dict[str, Any], dtype: torch.dtype
) -> None:
    """ZeRO stage 3: each parameter is partitioned over the replicas before the next one is
    initialized, so that no rank ever holds more than one whole parameter.
    """
    import deepspeed

    unit = ModelParallelUnit(mesh)
    deepspeed.zero.Init(
        module=_LazyParameters(values),
        data_parallel_group=unit.get_data_parallel_group(),
        config_dict_or_path=settings,
        mpu=unit,
        dtype=dtype,
        mem_efficient_linear=False,
    )


def engine_settings(config: Config, model: nn.Module) -> dict[str, Any]:
    """The run's settings as this rank's engine gets them.

    At stage 0 our optimizer (stage0.py) clips and keeps the master weights, so DeepSpeed must not.
    Files go to a folder of this rank's own, through buffers that hold the largest parameter.
    """
    settings = deepspeed_settings(config)
    if config.training.zero_stage == 0:
        settings["gradient_clipping"] = 0.0
        for name in ("bf16", "fp16", "data_types"):
            settings.pop(name, None)
    if nvme.wanted(config):
        nvme.use_operator()
        folder = str(nvme.claim(Path(config.training.nvme_path)))
        largest = max(getattr(p, "ds_numel", p.numel()) for p in model.parameters())
        for name in ("offload_optimizer", "offload_param"):
            part = settings["zero_optimization"].get(name, {})
            if part.get("device") == "nvme":
                part["nvme_path"] = folder
                if name == "offload_param":
                    part.setdefault("buffer_size", largest)
    return settings


def start_deepspeed() -> None:
    """DeepSpeed on the process groups that are there, without its shared-memory collectives."""
    import deepspeed

    shared_memory.keep_off()
    if os.environ.get("LOCAL_RANK", "0") == "0":
        shared_memory.remove_stale()
    deepspeed.logger.setLevel(logging.WARNING)
    deepspeed.logger.handlers.clear()  # made as it was imported: to the screen
    deepspeed.logger.propagate = True  # to this rank's log (run/screen.py)
    deepspeed.logger.addFilter(_is_news)
    deepspeed.init_distributed(dist_init_required=False)


def _is_news(record: logging.LogRecord) -> bool:
    """Not what DeepSpeed says of each optimizer that is not its own; the tests are here."""
    return "ZeRO with an untested optimizer" not in record.getMessage()


@contextlib.contextmanager
def prints_logged() -> Iterator[None]:
    """What is printed within goes into this rank's log: DeepSpeed prints the memory it takes."""
    prints = io.StringIO()
    try:
        with contextlib.redirect_stdout(prints):
            yield
    finally:
        for line in prints.getvalue().splitlines():
            logging.getLogger("longseq").info("DeepSpeed: %s", line)


def _keep_compiler_off() -> None:
    """Import what DeepSpeed looks up when it checks an optimizer, its Muon, without compiling it.

    It asks torch to as it is imported, which loads the whole compiler: a second and 41 MiB a rank,
    for functions that nobody calls here (ours is torch's Muon).
    """
    from deepspeed.runtime import compiler

    compile_with_torch = compiler.compile
    compiler.compile = lambda: lambda function: function
    try:
        import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401
    finally:
        compiler.compile = compile_with_torch


@contextlib.contextmanager
def _without_triton(device: torch.device) -> Iterator[None]:
    """Where torch's build for GPUs runs on a CPU, its Triton is not there for who looks within.

    DeepSpeed's engine imports it for experts, which we have none of: 80 MiB of a rank.
    """
    if device.type != "cpu" or "triton" in sys.modules:
        yield
        return
    sys.modules["triton"] = None  # type: ignore[assignment]  # as Python marks what cannot be had
    try:
        yield
    finally:
        del sys.modules["triton"]


def make_engine(config: Config, mesh: Mesh, model: GPT) -> Any:
    """DeepSpeed's engine around `model`, with our optimizer and no scheduler of its own."""
    import deepspeed

    start_deepspeed()
    _keep_compiler_off()
    if config.training.zero_stage == 3:
        # A layer's weights come and go together: recomputation runs parts of it at a time
        deepspeed.utils.set_z3_leaf_modules(model, [Layer])
    optimizer = make_optimizer(config, parameter_groups(model, config.training), mesh)
    device = next(model.parameters()).device
    with prints_logged(), _without_triton(device):
        engine, _, _, _ = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            config=engine_settings(config, model),
            mpu=ModelParallelUnit(mesh),
            dist_init_required=False,
        )
    if isinstance(optimizer, BareOptimizer):
        engine.zero_grad = optimizer.forget_gradients
        if config.training.fp16:
            scale_losses(engine, deepspeed_settings(config))
    elif config.training.fp16:
        change_after_update(engine.optimizer)
    if mesh.replicas.size == 1 and config.training.zero_stage == 0:
        # Nothing to average: this spares a copy of all gradients there and back, every step.
        engine.enable_backward_allreduce = False
    return engine
