"""The run's DeepSpeed configuration, from the same arguments as everything else (stdlib only).

    settings = deepspeed_settings(config)     # with what the user's files replace

What DeepSpeed would otherwise fill in behind our back is written out: clipping (its silent default
is 1.0), buckets (made for billions of parameters), and a batch that counts the ranks which share a
sequence as data parallel, because the trainer scales their loss so (see engine.py).
"""

from __future__ import annotations

from typing import Any

from longseq.config.arguments import Config
from longseq.engine.ds_overrides import overridden
from longseq.host.machine import device_in_sight
from longseq.memory.states import LARGEST_BUCKET

SMALLEST_BUCKET = 2**16


def deepspeed_settings(config: Config) -> dict[str, Any]:
    """The JSON object for the engine: ours, with what the user's files replace."""
    train = config.training
    settings = deepspeed_config(config)
    theirs, ours = train.deepspeed_overrides, train.deepspeed_config
    for path, flag in (
        (theirs, f"--deepspeed-overrides {theirs} (DS_CONFIG)"),
        (ours, f"--deepspeed_config {ours}"),
    ):
        if path:
            settings = overridden(settings, path, flag)
    return settings


def deepspeed_config(config: Config) -> dict[str, Any]:
    """The JSON object that the arguments mean; the optimizer is the trainer's, not named here."""
    train, axes = config.training, config.layout
    result: dict[str, Any] = {
        "train_batch_size": config.global_batch_size * axes.sequence_ranks,
        "train_micro_batch_size_per_gpu": train.micro_batch_size,
        "gradient_accumulation_steps": config.accumulation,
        "gradient_clipping": train.clip_grad,
        "zero_optimization": _zero(config),
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    if train.bf16:
        result["bf16"] = {"enabled": True}
    if train.fp16:
        result["fp16"] = {"enabled": True, "initial_scale_power": 12}
    if train.dtype != "fp32":  # gradients of several ranks are added up in fp32
        result["communication_data_type"] = "fp32"
    if train.bf16 and config.accumulation > 1:  # and those of several micro batches
        result["data_types"] = {"grad_accum_dtype": "fp32"}
    if "nvme" in (train.offload_optimizer, train.remote_device):
        result["aio"] = {"block_size": 2**20, "queue_depth": 8, "overlap_events": True}
    return result


def _zero(config: Config) -> dict[str, Any]:
    train = config.training
    zero: dict[str, Any] = {"stage": train.zero_stage}
    if train.zero_stage == 0:
        return zero
    on_gpu = device_in_sight(train.device) != "cpu"  # a CPU has no second stream to hide it in
    zero |= {"overlap_comm": on_gpu, "contiguous_gradients": True}
    zero["reduce_bucket_size"] = zero["allgather_bucket_size"] = _bucket(config)
    replicas = config.layout.world_size // config.layout.tp
    if train.zero_stage < 3 and train.dtype != "fp32" and replicas & (replicas - 1):
        # Else DeepSpeed divides by them before the sum in fp32, and a third is rounded once more
        zero["reduce_scatter"] = False
    if train.zero_stage == 3:
        # DeepSpeed's own linear adds the bias after rounding: other numbers in bf16
        zero["memory_efficient_linear"] = False
        zero["stage3_prefetch_bucket_size"] = _bucket(config)
        # Norms and biases are gathered once and kept: their messages cost more than their memory
        zero["stage3_param_persistence_threshold"] = config.network.hidden_size
        del zero["allgather_bucket_size"]
    if train.offload_optimizer != "none":
        zero["offload_optimizer"] = _offload(train.offload_optimizer, train.nvme_path, on_gpu)
    if train.remote_device != "none":
        zero["offload_param"] = _offload(train.remote_device, train.nvme_path, on_gpu)
        if train.remote_device == "nvme":
            zero["offload_param"]["max_in_cpu"] = 0
    return zero


def _offload(device: str, nvme_path: str, pinned: bool) -> dict[str, Any]:
    result: dict[str, Any] = {"device": device, "pin_memory": pinned}
    return result | ({"nvme_path": nvme_path} if device == "nvme" else {})


def _bucket(config: Config) -> int:
    """Numbers that travel together: half a layer's share, so that backward of one half hides the
    messages of the other. Even, as DeepSpeed's alignment asks; a larger parameter travels alone.
    """
    net, tp = config.network, config.layout.tp
    layer = 4 * net.hidden_size**2 + (3 if net.swiglu else 2) * net.hidden_size * net.ffn_size
    return min(LARGEST_BUCKET, max(layer // (2 * tp), SMALLEST_BUCKET)) // 2 * 2
