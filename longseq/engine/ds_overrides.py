"""A user's JSON file of DeepSpeed settings over ours: anything in it wins, but for what flags say.

    settings = overridden(settings, "user.json", "--flag user.json (VARIABLE)")   # raises UserError

A setting that is also a flag's (batch, clipping, stage, precision, offload) must agree with it.
Optimizer, learning rate and parallel axes are the trainer's. A name that DeepSpeed does not know,
which it would ignore without a word, is refused. Standard library only.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from longseq.errors import UserError

# Setting → the flag and the variable that say the same
OWNED = {
    "train_batch_size": "--global-batch-size (GAS; here times Ulysses and ring ranks)",
    "train_micro_batch_size_per_gpu": "--micro-batch-size (MICRO_BATCH)",
    "gradient_accumulation_steps": "--global-batch-size (GAS)",
    "gradient_clipping": "--clip-grad",
    "zero_optimization.stage": "--zero-stage (ZERO_STAGE)",
    "bf16.enabled": "--bf16 (DTYPE)",
    "fp16.enabled": "--fp16 (DTYPE)",
    "zero_optimization.offload_optimizer.device": "--cpu-optimizer (OFFLOAD_DEVICE)",
    "zero_optimization.offload_param.device": "--remote-device (OFFLOAD_PARAM)",
    "zero_optimization.offload_optimizer.nvme_path": "--nvme-path (NVME_PATH)",
    "zero_optimization.offload_param.nvme_path": "--nvme-path (NVME_PATH)",
}
# What a setting is that we leave out
ABSENT = {"bf16.enabled": False, "fp16.enabled": False} | {
    f"zero_optimization.offload_{what}.{name}": value
    for what in ("optimizer", "param")
    for name, value in (("device", "none"), ("nvme_path", ""))
}
NEVER = {
    "optimizer": "the optimizer is the trainer's: give --optimizer, --lr, --weight-decay",
    "scheduler": "the learning rate has one owner: give --lr, --min-lr, --lr-decay-style and the"
    " warm-up",
    "sequence_parallel_size": "give --ds-sequence-parallel-size (SPSIZE)",
    "tensor_parallel": "give --tensor-model-parallel-size (MPSIZE)",
    "pipeline": "there is no pipeline",
    "torch_autocast": "precision is --bf16 or --fp16 (DTYPE)",
    "amp": "precision is --bf16 or --fp16 (DTYPE)",
    "activation_checkpointing": "give --checkpoint-activations (USE_ACTIVATION_CHECKPOINTING)",
    "compile": "the trainer does not compile the network",
}
SECTIONS = """
    aio bf16 checkpoint comms_logger communication_data_type csv_monitor data_types
    disable_allgather dump_state flops_profiler fp16 gradient_accumulation_steps gradient_clipping
    gradient_predivide_factor load_universal_checkpoint memory_breakdown prescale_gradients
    sparse_gradients steps_per_print train_batch_size train_micro_batch_size_per_gpu
    wall_clock_breakdown zero_allow_untested_optimizer zero_force_ds_cpu_optimizer
    zero_optimization
""".split()
ZERO = """
    allgather_bucket_size allgather_partitions contiguous_gradients elastic_checkpoint
    ignore_unused_parameters load_from_fp32_weights log_trace_cache_warnings max_live_parameters
    memory_efficient_linear model_persistence_threshold offload_optimizer offload_param overlap_comm
    override_module_apply parameter_alignment reduce_bucket_size reduce_scatter
    round_robin_gradients stage stage3_allgather_sequential
    stage3_gather_16bit_weights_on_model_save stage3_max_live_parameters stage3_max_reuse_distance
    stage3_model_persistence_threshold stage3_module_granularity_threshold
    stage3_param_persistence_threshold stage3_prefetch_bucket_size
    stage3_use_all_reduce_for_fetch_params sub_group_size use_multi_rank_bucket_allreduce
    zero_hpz_partition_size zero_quantized_gradients zero_quantized_weights
""".split()


def overridden(settings: dict[str, Any], path: str, where: str) -> dict[str, Any]:
    """`settings` with those in the file put over them; "auto" leaves ours. where: who names it."""
    theirs = _read(path, where)
    _known(where, theirs, SECTIONS, "")
    zero = theirs.get("zero_optimization", {})
    if not isinstance(zero, dict):
        raise UserError(f"{where}: zero_optimization is {json.dumps(zero)}, not an object")
    _known(where, zero, ZERO, "zero_optimization.")
    ours = dict(_leaves(settings))
    for name, value in _leaves(theirs):
        mine = ours.get(name, ABSENT.get(name))
        if name in OWNED and value != "auto" and value != mine:
            raise UserError(
                f"{where} says {name} {json.dumps(value)}, and {OWNED[name]} says"
                f" {json.dumps(mine)}: make them agree, or leave it out of the file"
            )
    return _merged(settings, theirs)


def _read(path: str, where: str) -> dict[str, Any]:
    try:
        theirs = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{where}: {reason}: name a JSON file of DeepSpeed settings") from None
    if not isinstance(theirs, dict):
        raise UserError(f'{where} holds no JSON object: give {{"name": value, …}}')
    return theirs


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON keeps the last of two equal names without a word."""
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} is there twice")
    return result


def _known(where: str, theirs: dict[str, Any], names: list[str], prefix: str) -> None:
    for name in theirs:
        if not prefix and name in NEVER:
            raise UserError(f"{where}: {name} is not taken from a file: {NEVER[name]}")
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ": take it out"
            raise UserError(f"{where}: {prefix}{name} is not a setting that can act here{hint}")


def _leaves(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything that is not an object."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _merged(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    result = dict(ours)
    for name, value in theirs.items():
        mine = ours.get(name)
        if isinstance(value, dict):
            result[name] = _merged(mine if isinstance(mine, dict) else {}, value)
        elif value != "auto":
            result[name] = value
    return result
