"""The estimator: bytes a rank needs, by kind.

What chooses recomputation, what `longseq plan` prints and what a run is held to are all this:

    found = needed(config, vocabulary, policy, "cuda")      # or need(job), of any job and system
    found.total, found.by_kind["activations"], found.host["optimizer"]

A step has six moments at which a rank can hold most, from the head, when nothing has a gradient,
to the update. Weights and optimizer state stand through all of them (arXiv 1910.02054, section 3);
what layers keep is counted in numbers a token (arXiv 2205.05198, section 4, for tensors as model/
makes them). Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

from longseq.config.arguments import Config
from longseq.memory.job import Job, job_of
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.memory.system import OURS, System
from longseq.model.head_tiles import tile_tokens

KINDS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer state, master weights",
    "activations": "kept for backward",
    "layer": "the layer at work",
    "logits": "logits and their gradient",
    "update": "what the update makes",
    "collectives": "buffers of messages, gathered weights",
    "batch": "tokens, labels, rotary table",
    "slack": "held by the allocator, not used",
    "context": "CUDA context, libraries",
    "programs": "what is no tensor, on a CPU",
}
MOMENTS = (
    "the head",
    "backward of a layer",
    "backward of the first layer",
    "backward of the embedding",
    "the sum of gradients",
    "the update",
)
BUCKET = 500_000_000  # LARGEST_BUCKET of engine/ds_config.py, numbers
OUTSIDE = ("outside-attention", "full")
# What a rank on a CPU takes with its first steps that is no tensor: objects of Python and of
# DeepSpeed's engine, more with ZeRO, gloo's buffers, more with messages in pieces, holes in glibc's
# heap, where tensors below a MiB are. Measured: docs/simulate.md.
PROGRAM, PROGRAM_OF_ZERO, PROGRAM_OF_PIECES = 40 * 2**20, 10 * 2**20, 30 * 2**20


@dataclass(frozen=True)
class Need:
    """Bytes of one rank at the moment at which it holds most; `host`: in memory of its host."""

    by_kind: dict[str, float]
    host: dict[str, float]
    moment: str

    @property
    def total(self) -> float:
        return sum(self.by_kind.values())

    @property
    def tensors(self) -> float:
        """Without what the driver and libraries take before the first tensor."""
        return self.total - self.by_kind["context"]


def needed(config: Config, vocabulary: int, policy: RecomputePolicy, device: str = "cpu") -> Need:
    """What a rank of this run needs; `vocabulary` as the data have it."""
    return need(job_of(config, vocabulary, policy, device))


def need(job: Job, system: System = OURS) -> Need:
    """What a rank of `job` needs as `system` trains it."""
    stand, host = states(job, system)
    passing = _moments(job, system, stand["gradients"])
    moment = max(passing, key=lambda name: sum(passing[name].values()))
    by_kind = dict.fromkeys(KINDS, 0.0) | stand | passing[moment]
    if job.inputs_at == "cpu":
        host["activations"] = _inputs(job) * job.number * job.tokens
    if job.chunks_at == "cpu" and job.chunk:
        host["chunks"] = job.tokens * job.number * (2 * job.queries + 2 * job.keys) * 2
    if job.device == "cpu":  # where everything is in the host's memory
        for kind, size in host.items():
            by_kind[kind if kind in KINDS else "layer"] += size
        by_kind["programs"] = programs(job)
        return Need(by_kind, {}, moment)
    grown = ("gradients", "collectives")  # in one piece, or by messages of one size
    comes = (size for kind, size in passing[moment].items() if kind not in grown)
    by_kind["slack"] = system.slack * sum(comes)
    by_kind["context"] = system.context
    return Need(by_kind, host, moment)


def programs(job: Job) -> float:
    """Bytes that a rank on a CPU takes and that are no tensor."""
    more = PROGRAM_OF_ZERO if job.zero else 0
    return PROGRAM + more + (PROGRAM_OF_PIECES if job.tp > 1 else 0)


def states(job: Job, system: System) -> tuple[dict[str, float], dict[str, float]]:
    """Weights, gradients and optimizer state: on the GPU, and in host memory.

    ZeRO cuts optimizer state from stage 1 on, gradients from 2, weights from 3, over the ranks that
    hold the same. In fp32 there are no masters, but at stage 1 and above DeepSpeed makes a copy.
    """
    count, shards = job.parameters, job.shards
    weights, gradients, optimizer = system.weights, system.gradients, system.optimizer
    if job.dtype == "fp32":
        weights, gradients, optimizer = 4, 4, 12 if job.zero else 8
    elif job.micro_batches > 1 and job.zero < 2 and system.sums:
        gradients = 4  # sums over micro batches are in fp32
    gpu = {
        "weights": count * weights / (shards if job.zero >= 3 else 1),
        "gradients": count * gradients / (shards if job.zero >= 2 else 1),
        "optimizer": count * optimizer / (shards if job.zero >= 1 else 1),
    }
    host: dict[str, float] = {}
    if (
        job.optimizer_at != "gpu"
    ):  # with it go fp32 gradients; on disk, only what is at work is here
        size = gpu["optimizer"] + count * 4 / shards
        host["optimizer"] = size if job.optimizer_at == "cpu" else size / job.layers
        gpu["optimizer"] = 0.0
        if job.zero >= 2:
            gpu["gradients"] = 0.0
    if job.weights_at != "gpu":
        share = gpu["weights"]
        host["weights"] = share if job.weights_at == "cpu" else share / job.layers
        gpu["weights"] = 0.0
    return gpu, host


def _moments(job: Job, system: System, gradients: float) -> dict[str, dict[str, float]]:
    """What comes and goes, at each moment; `gradients`: bytes of all that a rank keeps of them.

    A table's gradient is in fp32 while the head adds it up, and where tokens and head share the
    table it waits for the other half. Those of layers come one by one, unless they are sums of
    several micro batches, or the system keeps room for them.
    """
    kept, layer = kept_bytes(job, system), layer_bytes(job, system)
    batch = {"batch": job.tokens * (28 + 4 * job.network.rotary_size)}
    table = job.vocabulary * job.network.hidden_size / job.tp * job.number
    in_tiles = system.logit == 0
    waiting = table if in_tiles and (job.number == 2 or not system.room) else 0.0
    passing_hidden = job.tokens * job.hidden * job.number
    there = system.room or job.zero >= 3 or job.micro_batches > 1
    first = {"gradients": gradients if there else 0.0}
    last = {"gradients": gradients}
    whole, bucket = _gathered(job, system), _bucket(job)
    forward, begun = {"collectives": whole}, {"collectives": whole + bucket * job.number}
    backward = {"collectives": whole + bucket * _sent(job, system)}
    head = kept + 2 * passing_hidden
    logits = logit_bytes(job, system) + (table * 4 / job.number if in_tiles else 0.0)
    # Once there, and its gradient: what sequence parallelism gathers
    gathered = gathered_bytes(job, system) / 2
    found = {
        "the head": {"activations": head, "layer": gathered, "logits": logits} | first | forward,
        "backward of a layer": {"activations": kept, "layer": layer, "logits": waiting}
        | first
        | (backward if system.room or job.zero >= 3 else begun),
        "the update": last | _update(job, system, gradients),
    }
    if not system.room:
        held = {"activations": kept / job.layers, "layer": layer}
        found["backward of the first layer"] = held | last | backward
        found["backward of the embedding"] = {
            "activations": 2 * passing_hidden,
            "gradients": gradients * (1 if job.zero >= 3 else 1 - _table_part(job)),
            "logits": _tables(job) * table,
            "collectives": min(whole, table) + bucket * _sent(job, system),
        }
        if job.zero == 0 and job.shards > 1:
            size = min(BUCKET, job.parameters) * (system.bucket if job.number == 2 else 4)
            found["the sum of gradients"] = last | {"collectives": size}
    return {moment: kinds | batch for moment, kinds in found.items()}


def _table_part(job: Job) -> float:
    """Of all parameters, those of the table of tokens."""
    return job.vocabulary * job.network.hidden_size / job.tp / job.parameters


def _tables(job: Job) -> int:
    """Tables' worth of gradients that exist while the embedding makes its own: with one table for
    tokens and head also the head's, and the sum of both; ZeRO 2 sends it from a copy.
    """
    tied = not job.network.untie_embeddings_and_output_weights
    split = 2 if job.sequence_parallel else 0
    return (3 if tied else 1) + split + (job.zero == 2 and job.shards > 1)


def _update(job: Job, system: System, gradients: float) -> dict[str, float]:
    """Beside masters and moments: gradients as one, and in fp32."""
    if job.optimizer_at != "gpu" and job.zero:
        return {"update": 0.0}
    if system.room:
        size = job.parameters * system.update / (job.shards if job.zero else 1)
        return {"update": 0.0 if job.dtype == "fp32" and not job.zero else size}
    share = job.parameters / (job.shards if job.zero else 1)
    if job.zero == 0:  # fp32 ones take the place of others, parameter by parameter
        half = job.number == 2
        return {"gradients": 0.0, "update": share * 4} if half else {"update": 0.0}
    if job.zero < 3:  # its part of them, side by side, and in fp32
        return {"gradients": share * job.number, "update": share * (6 if job.number == 2 else 4)}
    return {"update": share * 4}


def logit_bytes(job: Job, system: System) -> float:
    """Logits of a tile, in fp32 and once more as the layers count, or of all tokens."""
    columns = job.vocabulary / job.tp
    if system.logit:
        return job.tokens * columns * system.logit
    kind = "cpu" if job.device == "cpu" else "gpu"
    tokens = tile_tokens(kind, int(columns), job.micro_batch) * job.micro_batch
    return min(job.tokens, tokens) * columns * (4 if job.number == 4 else 6)


def kept_whole(job: Job) -> float:
    """Numbers a token of a layer that keeps all of it.

    Inputs of both norms and what they give, q, k and v, queries and keys once more after rotary
    positions, attention's output, and what the MLP makes.
    """
    rotated = job.queries + job.keys if job.network.use_rotary_position_embeddings else 0.0
    attention = 2 * job.queries + 2 * job.keys + rotated
    return 4 * job.hidden + attention + job.mlp


def _scores(job: Job, system: System) -> float:
    """Bytes of the scores of one layer, where the kernel writes them."""
    if job.flash:
        return 0.0
    heads = job.network.num_attention_heads / job.tp / job.ulysses
    rows = job.network.seq_length / job.ring
    return job.micro_batch * heads * rows * job.network.seq_length * system.scores


def _inputs(job: Job) -> float:
    """Numbers a token of the layer inputs that are kept where layers are recomputed."""
    return job.hidden * job.layers / job.group


def kept_bytes(job: Job, system: System) -> float:
    """Bytes that layers keep between forward and backward.

    A pipeline's first stage has as many micro batches under way as there are stages, each with the
    layers of one stage, so that it keeps as much as all layers would of one micro batch.
    """
    micro_batches = min(job.pp, job.micro_batches) if job.pp > 1 else 1
    whole = kept_whole(job) * system.kept * job.tokens * job.number
    scores = _scores(job, system)
    if job.recompute == "none":
        return job.layers * micro_batches * (whole + scores)
    if job.recompute == "selective":
        return job.layers * micro_batches * whole * system.selective
    numbers = _inputs(job) if job.inputs_at == "gpu" else 2 * job.hidden
    if job.recompute == "outside-attention":
        numbers += job.queries * job.layers
    recomputed = numbers * job.tokens * job.number
    if job.block:
        part = job.block / job.layers
        return micro_batches * (recomputed * part + job.layers * (1 - part) * (whole + scores))
    return micro_batches * recomputed


def gathered_bytes(job: Job, system: System) -> float:
    """Bytes of the hidden states of all tokens that sequence parallelism gathers at once."""
    hidden = job.network.hidden_size if job.sequence_parallel else 0
    return system.whole * hidden * job.tokens * job.number


def layer_bytes(job: Job, system: System) -> float:
    """Bytes of the layer whose backward is at work, beside what is kept."""
    at_once, gathered = job.tokens * job.number, gathered_bytes(job, system)
    if job.recompute not in OUTSIDE:
        scores = _scores(job, system) * (2 if job.recompute == "selective" else 1)
        return (job.hidden + job.mlp / 2 + _ring(job)) * at_once + scores + gathered
    attention = system.outer * job.hidden + system.inner * job.queries + system.keys * job.keys
    if system.query_sums and job.device != "cpu":
        attention += job.queries * 4 / job.number
    attention += _ring(job)
    if job.chunk:
        return _chunked_layer(job, system) + gathered
    size = attention * at_once + _scores(job, system)
    if job.group > 1:
        size += (job.group - 1) * job.hidden * at_once
    if system.tiles_mlp:
        size += kept_whole(job) * 2 * min(job.tile, job.tokens) * job.number
    else:  # as it is written: the MLP's own, beside what attention keeps
        size = max(size, (kept_whole(job) + system.mlp * job.hidden) * at_once)
    return size + gathered


def _ring(job: Job) -> float:
    """Numbers a token of the block that comes, and of sums in fp32 (parallel/ring.py)."""
    if job.ring == 1:
        return 0.0
    return 4 * job.keys + (job.queries + 4 * job.keys) * 4 / job.number


def _chunked_layer(job: Job, system: System) -> float:
    """Two chunks of q, k, v, output and gradients with sums in fp32, beside all of them.

    What waits in host memory is what attention keeps for its backward; the layer itself has q, k,
    v, output and gradients of all tokens on the GPU, but no fp32 sums of them.
    """
    whole = system.outer * job.hidden + system.inner * job.queries + system.keys * job.keys
    heads = job.network.num_attention_heads / job.tp / job.ulysses
    chunk = min(job.chunk, job.network.seq_length) * job.network.head_size * heads
    return whole * job.tokens * job.number + 8 * chunk * (job.number + 4)


def _bucket(job: Job) -> float:
    """Gradients that travel together at ZeRO 1 to 3, numbers."""
    return min(BUCKET, job.layer_parameters / 2) if job.shards > 1 and job.zero else 0.0


def _sent(job: Job, system: System) -> float:
    """Bytes that a number of a bucket takes when it is sent; at stages 1 and 2 two travel."""
    return (system.bucket if job.number == 2 else 4) * (1 if job.zero >= 3 else 2)


def _gathered(job: Job, system: System) -> float:
    """Weights that are whole at once at stage 3."""
    if job.shards == 1 or job.zero < 3:
        return 0.0
    least = max(2 * job.layer_parameters, job.table_parameters)
    return max(least, min(system.gathered, job.parameters)) * job.number
