"""argv → checked Config; every combination of flags that cannot act is refused with its remedy.

    config = parse_config(argv, world_size=8)   # raises UserError

Each check looks at one subject; none changes anything. What has to divide by what is in
shape_checks.py, flags that act with another one only in companions.py, and attention kernels are
kernels.py's subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from longseq.config.arguments import GROUPS, UPSTREAM, Config
from longseq.config.companions import check_companions
from longseq.config.flags import parse
from longseq.config.kernels import this_machine, with_kernel
from longseq.config.optimizers import OPTIMIZERS
from longseq.config.shape_checks import check_shapes
from longseq.config.split import parse_split
from longseq.errors import UserError
from longseq.host.machine import Machine

PROFILED = 6  # iterations that a run has which is profiled: warm-up, traced, counted


def parse_config(argv: Sequence[str], world_size: int, machine: Machine | None = None) -> Config:
    """The checked configuration of a run on `world_size` ranks; raises UserError.

    machine: what it is to run on, this one unless given.
    """
    return make_config(parse(GROUPS, argv), world_size, machine)


def make_config(parts: Sequence[Any], world_size: int, machine: Machine | None = None) -> Config:
    """`parse_config` where the flags are read already: one instance of each of GROUPS."""
    network, layout, memory, training, data, run = parts
    config = Config(network, replace(layout, world_size=world_size), memory, training, data, run)
    check(config)
    return with_kernel(config, machine or this_machine())


def check(config: Config) -> None:
    """Raise UserError for the first request in `config` that cannot act as asked."""
    _trainer(config)
    check_shapes(config)
    _precision(config)
    _offload(config)
    _optimizer(config)
    _recomputation(config)
    check_companions(config)
    _chunks(config)
    _schedule(config)
    _spikes(config)
    _data(config)


def _trainer(config: Config) -> None:
    """What is the second trainer's alone."""
    run = config.run
    if run.trainer == UPSTREAM:
        return
    checkout = run.megatron_deepspeed_dir
    for name, is_given in (
        (f"--megatron-deepspeed-dir {checkout} (MEGATRON_DEEPSPEED_DIR)", checkout),
        ("--as-shipped (UPSTREAM_FIXES=0)", run.as_shipped),
    ):
        if is_given:
            raise UserError(f"{name} is of --trainer {UPSTREAM} (TRAINER): give that, or unset it")


def _precision(config: Config) -> None:
    train = config.training
    if train.bf16 and train.fp16:
        raise UserError("--bf16 and --fp16 exclude each other: give one")
    if train.device == "cpu":
        check_cpu(config)
    if train.device == "xpu":
        check_xpu(config)
    if train.compile == "on" and train.zero_stage == 3:
        raise UserError(
            "--compile on (COMPILE=on) with --zero-stage 3 (ZERO_STAGE=3), which takes weights away"
            " between their uses, where compiled code would keep them: use --compile auto, or"
            " stage 2"
        )


def check_cpu(config: Config) -> None:
    """Refuse what cannot act on a CPU; for runs on --device cpu, and where auto comes to that."""
    if config.training.fp16:
        raise UserError(
            "--fp16 (DTYPE=fp16): float16 training is not supported on CPUs: use --bf16"
            " (DTYPE=bf16), or neither (DTYPE=fp32)"
        )
    for name, is_given in (
        ("--checkpoint-in-cpu", config.memory.checkpoint_in_cpu),
        (
            "--ds-sequence-parallel-fpdt-offloading",
            config.memory.ds_sequence_parallel_fpdt_offloading,
        ),
    ):
        if is_given:
            raise UserError(f"{name}: on a CPU everything is in host memory already: leave it out")


def check_xpu(config: Config) -> None:
    """Refuse what has no code for Intel's GPUs: --device xpu, or where auto finds some."""
    if config.layout.context_parallel_size > 1:
        raise UserError(
            f"--context-parallel-size {config.layout.context_parallel_size} on --device xpu: ring"
            " attention's blocks are there for CUDA and CPUs: use Ulysses or tensor parallelism"
        )


def _offload(config: Config) -> None:
    train = config.training
    if train.cpu_optimizer and train.nvme_optimizer:
        raise UserError("--cpu-optimizer and --nvme-optimizer exclude each other: give one")
    if train.cpu_optimizer and train.zero_stage == 0:
        raise UserError(
            "--cpu-optimizer (OFFLOAD_DEVICE=cpu) needs ZeRO: give --zero-stage 1, 2 or 3"
        )
    if train.nvme_optimizer and train.zero_stage != 3:
        raise UserError(
            f"--nvme-optimizer (OFFLOAD_DEVICE=nvme) with --zero-stage {train.zero_stage}:"
            " DeepSpeed would keep it in host memory; give --zero-stage 3, or --cpu-optimizer"
        )
    if train.remote_device != "none" and train.zero_stage != 3:
        raise UserError(
            f"--remote-device {train.remote_device} (OFFLOAD_PARAM) with --zero-stage"
            f" {train.zero_stage}: only stage 3 cuts parameters up: give --zero-stage 3"
        )
    if train.offload_optimizer != "none" and not OPTIMIZERS[train.optimizer].on_host:
        raise UserError(
            f"--{train.offload_optimizer}-optimizer has no {train.optimizer}: use --optimizer adam,"
            " or leave it out"
        )
    _nvme(config)


def _nvme(config: Config) -> None:
    train = config.training
    used = "nvme" in (train.offload_optimizer, train.remote_device)
    if used and not train.nvme_path:
        raise UserError(
            "offload to NVMe needs --nvme-path (NVME_PATH), a folder on a local disk of each host"
        )
    if train.nvme_path and not used:
        raise UserError(
            f"--nvme-path {train.nvme_path} (NVME_PATH): nothing is offloaded to NVMe; give"
            " --nvme-optimizer (OFFLOAD_DEVICE=nvme) or --remote-device nvme (OFFLOAD_PARAM=nvme),"
            " or leave it out"
        )
    if train.remote_device == "nvme" and train.offload_optimizer != "nvme":
        raise UserError(
            "--remote-device nvme (OFFLOAD_PARAM=nvme) needs --nvme-optimizer"
            " (OFFLOAD_DEVICE=nvme): DeepSpeed's update reads both from there"
        )


def _optimizer(config: Config) -> None:
    """A piece of a matrix would be updated with other numbers than the whole one."""
    name, train, tp = config.training.optimizer, config.training, config.layout.tp
    if train.lr * train.weight_decay > 1:
        raise UserError(
            f"--weight-decay {train.weight_decay:g} at --lr {train.lr:g} (LR) would take more of"
            " a weight than there is: lower one of them"
        )
    if not OPTIMIZERS[name].whole_matrices:
        return
    if train.zero_stage:
        raise UserError(
            f"--optimizer {name} works on whole matrices, which --zero-stage {train.zero_stage}"
            " cuts up: use --zero-stage 0 (ZERO_STAGE=0), or --optimizer adam"
        )
    if tp > 1:
        raise UserError(
            f"--optimizer {name} works on whole matrices, which --tensor-model-parallel-size {tp}"
            " cuts up: use 1, and Ulysses or ring for the ranks, or --optimizer adam"
        )


def _recomputation(config: Config) -> None:
    memory, layers = config.memory, config.network.num_layers
    granularity, count = memory.recompute_granularity, memory.recompute_num_layers
    if memory.checkpoint_activations and granularity not in ("auto", "full"):
        raise UserError(
            f"--checkpoint-activations means --recompute-granularity full, and {granularity} is"
            " asked for: leave one of them out"
        )
    if not memory.recomputes_layers:
        given = [
            name
            for name, is_given in (
                ("--recompute-method block", memory.recompute_method != "uniform"),
                (f"--recompute-num-layers {count}", count > 1),
                (f"--tile-size {memory.tile_size}", memory.tile_size > 0),
                ("--checkpoint-in-cpu", memory.checkpoint_in_cpu),
            )
            if is_given
        ]
        if given:
            raise UserError(
                f"{given[0]} needs layers that are recomputed, and --recompute-granularity is"
                f" {granularity}: give full (USE_ACTIVATION_CHECKPOINTING=1) or outside-attention"
            )
    if count > layers:
        raise UserError(
            f"--recompute-num-layers {count} is more than the {layers} layers there are"
        )
    if count > 1 and memory.recompute_method == "uniform" and granularity == "outside-attention":
        raise UserError(
            f"--recompute-num-layers {count} makes whole layers again, their attention too: give"
            " --recompute-granularity full, or --recompute-method block"
        )


def _chunks(config: Config) -> None:
    memory = config.memory
    if not memory.ds_sequence_parallel_fpdt:
        return
    if config.layout.ring > 1:
        raise UserError(
            f"--ds-sequence-parallel-fpdt: ring attention (--context-parallel-size"
            f" {config.layout.ring}) works in chunks of its own: leave one of them out"
        )
    if config.network.attention_dropout:
        raise UserError(
            f"--attention-dropout {config.network.attention_dropout:g} is not there with"
            " --ds-sequence-parallel-fpdt: leave one of them out"
        )


def _schedule(config: Config) -> None:
    train = config.training
    if train.lr_warmup_iters and train.lr_warmup_fraction:
        raise UserError("--lr-warmup-iters and --lr-warmup-fraction exclude each other: give one")
    if train.warmup_iters > train.decay_iters:
        raise UserError(
            f"--lr-warmup-iters {train.warmup_iters} is longer than the schedule of"
            f" {train.decay_iters} iterations: shorten it or raise --lr-decay-iters"
        )
    if train.min_lr > train.lr:
        raise UserError(
            f"--min-lr {train.min_lr:g} (MIN_LR) is above --lr {train.lr:g} (LR): lower it"
        )


def _spikes(config: Config) -> None:
    train = config.training
    if train.on_spike == "warn":
        return
    if train.on_spike == "rewind" and not (config.run.save and config.run.save_interval):
        raise UserError(
            "--on-spike rewind goes back to a checkpoint of this run: give --save and"
            " --save-interval (SAVE_INTERVAL), or --on-spike skip"
        )


def _data(config: Config) -> None:
    if not parse_split(config.data.split)[0]:
        raise UserError(
            f"--split {config.data.split} leaves nothing for training: its first weight is that"
        )
    data = config.data
    for name, length in (
        ("--seq-length", config.network.seq_length),
        ("--curriculum-seq-length", data.curriculum_seq_length),  # else no label would count
    ):
        if length and data.sample_overlap >= length:
            raise UserError(
                f"--sample-overlap {data.sample_overlap} is not below {name} {length}: give less"
            )
    if config.run.profile and not config.run.run_dir:
        raise UserError("--profile (PROFILE=1) writes into the run's folder: give --run-dir")
    if config.run.profile and config.training.train_iters < PROFILED:
        raise UserError(
            f"--profile (PROFILE=1) needs {PROFILED} iterations, and --train-iters is"
            f" {config.training.train_iters}: raise it (TRAIN_ITERS)"
        )
    if config.run.keep_every and not config.run.keep_last:
        raise UserError(
            f"--keep-every {config.run.keep_every}: without --keep-last nothing is removed: give"
            " that too, or leave it out"
        )
