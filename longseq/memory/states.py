"""Bytes that follow from parameters: weights, gradients, optimizer state, their messages.

ZeRO cuts them up over the ranks that hold the same (arXiv 1910.02054, section 3). Standard library
only.
"""

from __future__ import annotations

from longseq.config.optimizers import OPTIMIZERS
from longseq.memory.job import Job
from longseq.memory.system import System

ADAM = OPTIMIZERS["adam"].saved - 4  # bytes a parameter of its two moments, both fp32
# DeepSpeed's own sizes, in numbers: of a bucket, and of what stage 3 updates at a time
LARGEST_BUCKET = 500_000_000
SUB_GROUP = 1_000_000_000


def states(job: Job, system: System) -> tuple[dict[str, float], dict[str, float]]:
    """Weights, gradients and optimizer state: on the GPU, and in host memory.

    ZeRO cuts optimizer state from stage 1 on, gradients from 2, weights from 3, over the ranks that
    hold the same. In fp32 there are no masters, but at stage 1 and above DeepSpeed makes a copy.
    """
    count, shards = job.parameters, job.shards
    weights, gradients, optimizer = system.weights, system.gradients, system.optimizer
    if job.dtype == "fp32":
        weights, gradients, optimizer = 4, 4, 12 if job.zero else 8
    elif job.micro_batches > 1 and system.sums:
        gradients = _sums(job)
    optimizer += moments(job) - ADAM
    gpu = {
        "weights": count * weights / (shards if job.zero >= 3 else 1),
        "gradients": count * gradients / (shards if job.zero >= 2 else 1),
        "optimizer": count * optimizer / (shards if job.zero >= 1 else 1),
    }
    host: dict[str, float] = {}
    if job.optimizer_at != "gpu":
        wide = _sums_in_fp32(job)
        # Gradients go with it in fp32, at stage 3 as they come too; at stages 1 and 2 weights to
        # be sent, at stage 2 also sums in half precision; of files what is at work is
        more = job.number if job.zero == 2 and job.micro_batches > 1 and not wide else 0
        more += 4 if job.zero == 3 and wide else job.number
        size = gpu["optimizer"] + count * (4 + more) / shards
        host["optimizer"] = size if job.optimizer_at == "cpu" else size / job.layers
        # One gradient on its way there, with a place on the GPU; at stage 3 a part of one in fp64,
        # for the norm, which a GPU takes where the gradient comes from
        fp64 = 8 / shards if job.device == "cpu" else 0.0
        passing, largest = job.number if job.zero < 3 else fp64, _largest(job)
        host["optimizer"] += passing * largest
        gpu["optimizer"] = job.number * largest if job.zero < 3 else 0.0
        if job.zero >= 2 and not (job.zero == 2 and wide):
            gpu["gradients"] = 0.0
    if job.weights_at != "gpu":
        share = gpu["weights"]
        host["weights"] = share if job.weights_at == "cpu" else share / job.layers
        gpu["weights"] = 0.0
    return gpu, host


def _sums(job: Job) -> float:
    """Bytes a parameter of sums over micro batches: in fp32 (stage0.py), but DeepSpeed's of fp16
    (ds_config.py). Its bf16 optimizer of stage 1 keeps each micro batch's own beside them.
    """
    if job.zero and not _sums_in_fp32(job):
        return 2
    return 6 if job.zero == 1 and job.optimizer_at == "gpu" else 4


def _sums_in_fp32(job: Job) -> bool:
    """Whether DeepSpeed adds up several micro batches in fp32, and gradients are not."""
    return job.dtype == "bf16" and job.micro_batches > 1


def _largest(job: Job) -> float:
    """Parameters of the largest one."""
    return max(job.largest_matrix, _table(job))


def moments(job: Job) -> float:
    """Bytes a parameter that the optimizer keeps beside masters: what it saves, but the weights.

    Of adafactor's rows and columns there are too few to count; Adam steps the tables where only the
    layers have another rule.
    """
    traits = OPTIMIZERS[job.optimizer]
    tables = job.table_parameters / job.parameters if traits.layers_apart else 0.0
    return (traits.saved - 4) * (1 - tables) + ADAM * tables


def _made(job: Job, share: float) -> float:
    """Bytes that the optimizer's step makes beside gradients; `share`: parameters it is of."""
    traits = OPTIMIZERS[job.optimizer]
    if traits.together and (job.zero or job.device != "cpu"):  # ZeRO has one of all
        return traits.made * share
    return traits.made * max(job.largest_matrix, 0.0 if traits.layers_apart else _table(job))


def update_bytes(job: Job, system: System) -> dict[str, float]:
    """Beside masters and moments: gradients as one, and in fp32, and what a step makes."""
    share = job.parameters / (job.shards if job.zero else 1)
    if job.zero == 3 and job.optimizer_at == "gpu" and not system.room:
        share = _sub_group(job, share)
        # As one until they are in fp32, which sums of several micro batches are from the start
        narrow = job.number == 2 and not _sums_in_fp32(job)
        return {"update": max(share * (6 if narrow else 4), share * 4 + _made(job, share))}
    found = _gradients_bytes(job, system)
    found["update"] += _made(job, share)
    return found


def _gradients_bytes(job: Job, system: System) -> dict[str, float]:
    if job.optimizer_at != "gpu" and job.zero:
        return {"update": 0.0}
    if system.room:
        size = job.parameters * system.update / (job.shards if job.zero else 1)
        return {"update": 0.0 if job.dtype == "fp32" and not job.zero else size}
    share = job.parameters / (job.shards if job.zero else 1)
    if job.zero == 0:  # fp32 ones take the place of others, parameter by parameter
        half = job.number == 2
        return {"gradients": 0.0, "update": share * 4} if half else {"update": 0.0}
    # Its part of them, side by side, and in fp32
    return {"gradients": share * job.number, "update": share * (6 if job.number == 2 else 4)}


def _sub_group(job: Job, share: float) -> float:
    """Parameters of the largest of the groups that stage 3 updates one by one: a group is closed
    when it has SUB_GROUP of them, and a table is in one group. A layer is in four parts here.
    """
    if share <= SUB_GROUP:
        return share
    tied = not job.network.untie_embeddings_and_output_weights
    parts = [job.layer_parameters / 4] * round(4 * job.layers)
    groups = [0.0]
    for part in (_table(job), *parts, 0.0 if tied else _table(job)):
        if groups[-1] >= SUB_GROUP:
            groups.append(0.0)
        groups[-1] += part / job.shards
    return max(groups)


def copied_bytes(job: Job) -> float:
    """Of a checkpoint's copy, in host memory: ranks that hold the same share it out, at stage 0 by
    whole parameters, so that none has less than the largest.
    """
    return job.copied * max(job.parameters / job.shards, 0.0 if job.zero else _table(job))


def _table(job: Job) -> float:
    """Parameters of the table of tokens."""
    return job.vocabulary * job.network.hidden_size / job.tp


def table_part(job: Job) -> float:
    """Of all parameters, those of the table of tokens."""
    return _table(job) / job.parameters


def tables(job: Job) -> int:
    """Tables' worth of gradients that exist while the embedding makes its own: with one table for
    tokens and head also the head's, to which it is added; ZeRO 2 sends it from a copy. Where the
    sequence is split a rank makes that of all ranks' rows, and has room for what each other one
    sends of its rows. Half precision is added up in fp32 on a CPU, which is gone before a copy.
    """
    parts = job.tp if job.sequence_parallel else 1
    wide = 2 if job.device == "cpu" and job.number == 2 else 0
    own = max(parts * (1 + wide), 2 * parts - 1)
    tied = not job.network.untie_embeddings_and_output_weights
    return own + tied + (job.zero == 2 and job.shards > 1 and not wide)


def _half_a_layer(job: Job) -> float:
    """Numbers of a bucket, which is made for half a layer (engine/ds_config.py)."""
    return min(LARGEST_BUCKET, job.layer_parameters / 2)


def bucket(job: Job) -> float:
    """Gradients that travel together at ZeRO 1 to 3, numbers."""
    return _half_a_layer(job) if job.shards > 1 and job.zero else 0.0


def standing_bucket(job: Job, system: System) -> float:
    """Bytes of the bucket that DeepSpeed makes for stage 3 at the start and keeps, also for a rank
    alone: in fp32, as gradients travel.
    """
    return 0.0 if system.room or job.zero < 3 else 4 * _half_a_layer(job)


def summed(job: Job, system: System) -> float:
    """Bytes of the copy from which stage 0 sums gradients, a message's worth at a time."""
    return min(LARGEST_BUCKET, job.parameters) * (system.bucket if job.number == 2 else 4)


def sent(job: Job, system: System) -> float:
    """Bytes that a number of a bucket takes when it is sent; at stages 1 and 2 two travel."""
    return (system.bucket if job.number == 2 else 4) * (1 if job.zero >= 3 else 2)


def gathered_weights(job: Job, system: System) -> float:
    """Weights that are whole at once at stage 3."""
    if job.shards == 1 or job.zero < 3:
        return 0.0
    if system.room:
        least = max(2 * job.layer_parameters, job.table_parameters)
        return max(least, min(system.gathered, job.parameters)) * job.number
    # What is fetched ahead may pass DeepSpeed's bound by a bucket. None is for what is at work: two
    # layers, the one before in reach of its backward, and the head's table
    most = max(system.gathered + _half_a_layer(job), 2 * job.layer_parameters + _table(job))
    return min(job.parameters, most) * job.number
