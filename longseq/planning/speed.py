"""Seconds of a step, from FLOPs, bytes and the node's rates. Standard library only.

    times = step_times(job, OURS, node)
    times.seconds, times.parts["attention"]

Matrix products and attention run at the part of the GPU's peak that `Gpu` says, everything else at
what its memory reaches: each tensor that a layer makes is written once and read once. Messages of
tensor parallelism and Ulysses are waited for; the ring's hide behind attention, ZeRO's behind the
layers. Causal attention is half of the square; backward is two products for each of the forward
pass, and for flash attention two and a half, as it makes the scores again (arXiv 2205.14135). A
GPU that is done before its CPU has launched the next kernel waits for it.

What is said to be an H200's is measured there (docs/gpu.md, docs/kernels.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from longseq.memory.activations import kept_whole
from longseq.memory.job import Job
from longseq.memory.states import ADAM, moments
from longseq.memory.system import OURS, System
from longseq.planning.gpus import Gpu, Node

PARTS = {
    "products": "matrix products",
    "attention": "attention",
    "pointwise": "norms, activations, residuals",
    "tensor": "tensor parallel messages",
    "ulysses": "Ulysses messages",
    "ring": "ring messages not hidden",
    "replicas": "gradients and ZeRO not hidden",
    "host": "host memory not hidden",
    "launches": "waiting for the CPU to launch kernels",
    "pipeline": "pipeline bubble",
    "update": "the update",
}
PCIE = 20e9  # bytes a second between a GPU and its host in one direction: PCIe 4, four fifths of it
HOST_RATE = 150e9  # bytes a second of a node's memory that an optimizer on the host works at
HIDDEN = 0.8  # the part of a layer's time behind which ZeRO's messages can hide
MEMORY = 0.8  # of the memory's rate, that pointwise work and the optimizer reach on an H200
# A flash kernel gives a processor BLOCK rows of one head at a time. The diagonal cuts one block of
# each in half, and processors wait for the one that is last: 8,192 tokens of 24 heads get 0.86 of
# the speed of 65,536; on an H200 it is 0.84 with flash-attn 2's kernel and 0.87 with cuDNN's.
BLOCK, PROCESSORS = 128, 128
# Time of a score's exponential over that of its products with a head of 128, in flash-attn 2's
# kernel: heads of 64 reach 0.89 of its speed on an H200. Where products are faster, as cuDNN's, it
# weighs more (0.84 for 0.78). Heads are padded to the next of PADDED.
EXPONENTIAL = 0.13
PADDED = (32, 64, 96, 128, 192, 256)
# Of an H200's profile: 2,844 kernels a step of 48 layers, and 64 ms for them where it waits (2,048
# tokens). A layer that is recomputed in tiles launches a third more, for each of its tiles.
KERNELS, KERNELS_OF_STEP = 57, 108
LAUNCH = 22e-6
# Where the sequence is split over tensor-parallel ranks, a layer's four products are made of a
# piece a rank, each sent, received, multiplied and added up by itself (parallel/tensor.py): so many
# launches for each rank of the group, and of a layer that is made again so many more.
PIECES, PIECES_AGAIN = 36, 17


@dataclass(frozen=True)
class Times:
    """Seconds of one step by part, and bytes that a rank sends on each axis."""

    parts: dict[str, float]
    sent: dict[str, float]

    @property
    def seconds(self) -> float:
        return sum(self.parts.values())


def step_times(job: Job, node: Node, system: System = OURS) -> Times:
    """One step of all micro batches on each rank of `job`."""
    work = _work(job, node, system)
    sent = sent_bytes(job)
    messages = _messages(job, node, sent, work)
    once = {name: (work | messages)[name] * job.micro_batches for name in work | messages}
    once["launches"] = max(0.0, launches(job, system) * LAUNCH - sum(once.values()))
    busy = sum(once.values())
    once["pipeline"] = busy * (job.pp - 1) / job.micro_batches / job.virtual
    once["replicas"] += _replicas_once(job, node, sent, busy)
    once |= _update(job, node, system, busy)
    return Times(once, sent)


def launches(job: Job, system: System = OURS) -> float:
    """Kernels and messages that the CPU launches in a step."""
    ranks = job.tp if system.pieces and job.sequence_parallel else 0
    of_layer = KERNELS + PIECES * ranks
    tiles = math.ceil(job.tokens / job.tile) if job.tile else 1
    again = job.part * of_layer + job.again * (KERNELS / 3 + PIECES_AGAIN * ranks)
    each = (1 - job.part) * of_layer + again * tiles
    return (job.layers * each + KERNELS_OF_STEP) * job.micro_batches


def attention_reached(job: Job, gpu: Gpu, system: System) -> float:
    """The part of the GPU's peak that attention reaches: less in short sequences and small heads.

    A ring's blocks are as long as what its ranks hold, and nearly all of them whole squares, whose
    rows take equally long: half a round of the processors is lost at the end.
    """
    size = job.network.head_size
    padded = next((n for n in PADDED if n >= size), size)
    part = EXPONENTIAL * system.attention / (1 + EXPONENTIAL * (1 - system.attention))
    heads = (1 + part) / (1 + part * 128 / padded) * size / padded
    rows = job.network.seq_length / job.ring
    at_once = job.network.num_attention_heads / job.tp / job.ulysses * job.micro_batch
    reached = gpu.attention * system.attention * heads
    if job.ring > 1:
        return reached * system.ring / (1 + BLOCK / rows * PROCESSORS / at_once / 2)
    return reached / (1 + BLOCK / rows * (1 + 2 * PROCESSORS / at_once))


def _work(job: Job, node: Node, system: System) -> dict[str, float]:
    """Seconds of this rank's arithmetic for one micro batch."""
    net, gpu = job.network, node.gpu
    peak = gpu.peak(job.dtype)
    passes = 3 + job.again  # backward is worth two
    linear = 2 * job.layer_parameters * job.layers * job.tokens * passes
    head = 6 * net.hidden_size * job.vocabulary / job.tp * job.tokens / job.pp
    scores = attention_flops(job)
    forward = 1 + _attention_again(job)
    numbers = kept_whole(job) * job.layers * passes + _pointwise_again(job)
    traffic = 2 * numbers * job.tokens * job.number * system.traffic
    if not job.flash:
        traffic += scores / (4 * net.head_size) * 4 * system.scores * (forward + 1)
    half = gpu.peak("bf16" if job.dtype == "fp8" else job.dtype)
    return {
        "products": (linear + head) / (peak * gpu.matmul * system.products),
        "attention": scores * (forward + 2.5) / (half * attention_reached(job, gpu, system)),
        "pointwise": traffic / (gpu.memory_rate * 1e12 * MEMORY),
    }


def _attention_again(job: Job) -> float:
    """Forward passes through attention of all layers that backward makes again."""
    return {"full": job.again, "selective": 1.0}.get(job.recompute, 0.0)


def _pointwise_again(job: Job) -> float:
    """Numbers a token that norms and activation functions make again, in all layers that do."""
    if job.recompute != "pointwise" and job.rest != "pointwise":
        return 0.0
    return (job.layers - job.block) * (2 * job.hidden + job.mlp / 2)


def attention_flops(job: Job) -> float:
    """This rank's share of one forward pass through attention, causal, for one micro batch."""
    net = job.network
    whole = 2 * net.num_attention_heads * net.head_size * float(net.seq_length) ** 2
    return whole * job.layers * job.micro_batch / (job.tp * job.sequence_ranks)


def sent_bytes(job: Job) -> dict[str, float]:
    """Bytes that a rank sends in a step, by axis.

    Tensor parallel: an all-reduce, or a gather and a scatter, behind attention and MLP in each
    pass, and with the sequence split the inputs once more in backward (arXiv 2205.05198, 4.2.2).
    Ulysses: q, k, v and the output (arXiv 2309.14509). Ring: keys and values, in backward with
    gradients in fp32 (arXiv 2310.01889). ZeRO: weights gathered in both passes, gradients scattered
    in fp32 (arXiv 1910.02054).
    """
    at_once = job.tokens * job.number * job.layers * job.micro_batches
    hidden = job.network.hidden_size
    split = 2 if job.sequence_parallel else 0
    pair = 2 * (job.tp - 1) / job.tp
    count = job.parameters
    outside = (job.shards - 1) / job.shards
    weights = 2.0 if job.zero >= 3 else 0.0
    gradient = 4 if job.number == 4 else 2
    zero3 = weights * count * job.number * job.micro_batches
    reduce = (1 if job.zero >= 1 else 2) * gradient * count
    gathered = count * job.number if job.zero in (1, 2) else 0.0
    return {
        "tensor": at_once * hidden * pair * (2 * (2 + job.again) + split / 2),
        "ulysses": at_once
        * (2 * job.queries + 2 * job.keys)
        * (2 + job.again)
        * (job.ulysses - 1)
        / job.ulysses,
        # Keys and values go to every other rank; the sums of their gradients go home as well
        "ring": at_once
        * (2 * job.keys)
        * (
            (job.ring - 1) * (2 + _attention_again(job))
            + (4 * job.ring / job.number if job.ring > 1 else 0)
        ),
        "replicas": (zero3 + reduce + gathered) * outside,
    }


def _messages(
    job: Job, node: Node, sent: dict[str, float], work: dict[str, float]
) -> dict[str, float]:
    """Seconds that one micro batch waits for messages."""
    once = {axis: size / job.micro_batches for axis, size in sent.items()}
    ring = once["ring"] / node.bus(job.ring, job.tp * job.ulysses)
    found = {
        "tensor": once["tensor"] / node.bus(job.tp),
        "ulysses": once["ulysses"] / node.swap(job.ulysses, job.tp),
        "ring": max(0.0, ring - work["attention"]),
        "replicas": 0.0,
        "host": 0.0,
    }
    busy = sum(work.values()) + found["tensor"] + found["ulysses"] + found["ring"]
    if job.zero >= 3:
        gathered = 2.0 * job.parameters * job.number
        seconds = gathered / node.bus(job.shards, job.tp)
        found["replicas"] = max(0.0, seconds - HIDDEN * busy)
    moved = 0.0
    if job.inputs_at == "cpu":
        moved += 2 * job.hidden * job.part * job.groups * job.tokens * job.number
    if job.weights_at != "gpu":
        moved += 2 * job.parameters * job.number / job.shards
    found["host"] = max(0.0, moved / PCIE - HIDDEN * busy)
    return found


def _replicas_once(job: Job, node: Node, sent: dict[str, float], busy: float) -> float:
    """Seconds that gradients, and at stages 1 and 2 weights, travel after the last backward."""
    size = sent["replicas"]
    if job.zero >= 3:
        size -= 2.0 * job.parameters * job.number * job.micro_batches
    seconds = max(0.0, size) / node.bus(job.shards, job.tp)
    return max(0.0, seconds - HIDDEN * busy * 0.5 / job.micro_batches)


def _update(job: Job, node: Node, system: System, busy: float) -> dict[str, float]:
    """Seconds of the optimizer: it reads and writes its state once."""
    held = job.parameters / (job.shards if job.zero else 1)
    state = 2 * (system.optimizer + moments(job) - ADAM) + system.gradients + system.weights
    if job.optimizer_at == "gpu":
        return {"update": held * state / (node.gpu.memory_rate * 1e12 * MEMORY)}
    on_host = held * min(node.gpus, job.ranks) * state / HOST_RATE
    return {"update": on_host + held * 4 / PCIE}
