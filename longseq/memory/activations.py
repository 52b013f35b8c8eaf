"""Bytes that follow from tokens: what layers keep for backward, the layer at work, the logits.

Counted in numbers a token (arXiv 2205.05198, section 4, for tensors as model/ makes them). Standard
library only.
"""

from __future__ import annotations

import math

from longseq.memory.job import OUTSIDE, Job
from longseq.memory.system import System
from longseq.model.head_tiles import BLOCK, EXCHANGED, tile_tokens


def kept_whole(job: Job) -> float:
    """Numbers a token of a layer that keeps all of it.

    Inputs of both norms and what they give, q, k and v, queries and keys once more after rotary
    positions, attention's output, and what the MLP makes.
    """
    return 4 * job.hidden + 2 * job.queries + 2 * job.keys + _turned(job) + job.mlp


def _turned(job: Job) -> float:
    """Numbers a token of queries and keys after rotary positions."""
    return job.queries + job.keys if job.network.use_rotary_position_embeddings else 0.0


def _kept(job: Job, system: System, recompute: str) -> float:
    """Numbers a token of a layer of which nothing is recomputed; or norms and activation functions
    are (pointwise), whose inputs are kept.
    """
    whole = kept_whole(job) * system.kept
    if not system.turned:
        whole -= _turned(job)
        if job.sequence_ranks > 1 and not _waiting(job, system, recompute):
            whole += job.queries  # attention's output, and what its projection takes
    if recompute == "pointwise":
        whole -= 2 * job.hidden + job.mlp / 2
    return whole - _waiting(job, system, recompute)


def _scores(job: Job, system: System) -> float:
    """Bytes of the scores of one layer, where the kernel writes them."""
    if job.flash:
        return 0.0
    heads = job.network.num_attention_heads / job.tp / job.ulysses
    rows = job.network.seq_length / job.ring
    return job.micro_batch * heads * rows * job.network.seq_length * system.scores


def inputs(job: Job) -> float:
    """Numbers a token of the layer inputs that are kept where layers are recomputed."""
    return job.hidden * job.groups * job.part


def recomputed_bytes(job: Job, layers: float) -> float:
    """Bytes that so many layers keep which are recomputed: of inputs that wait on the host two are
    here.
    """
    kept = math.ceil(layers / job.group) if job.group > 1 else layers
    numbers = job.hidden * (kept if job.inputs_at == "gpu" else 2)
    if job.recompute == "outside-attention":
        numbers += job.queries * layers
    return numbers * job.tokens * job.number


def kept_bytes(job: Job, system: System) -> float:
    """Bytes that layers keep between forward and backward.

    A pipeline's first stage has as many micro batches under way as there are stages, each with the
    layers of one stage, so that it keeps as much as all layers would of one micro batch.
    """
    micro_batches = min(job.pp, job.micro_batches) if job.pp > 1 else 1
    at_once = job.tokens * job.number
    whole = _kept(job, system, job.rest if job.block else job.recompute) * at_once
    scores = _scores(job, system)
    if job.recompute in ("none", "pointwise"):
        return job.layers * micro_batches * (whole + scores)
    if job.recompute == "selective":
        return job.layers * micro_batches * whole * system.selective
    others = job.layers - job.block if job.block else 0
    recomputed = recomputed_bytes(job, job.layers - others)
    return micro_batches * (recomputed + others * (whole + scores))


def _waiting(job: Job, system: System, recompute: str) -> float:
    """Numbers a token of a layer as it is written that wait in host memory in its stead: q, k and
    v. Attention's output is what its projection keeps.
    """
    if recompute not in ("none", "pointwise") or not job.chunk or job.chunks_at == "gpu":
        return 0.0
    turned = _turned(job) if system.turned else 0.0
    return job.queries + 2 * job.keys + turned


def chunks_on_host(job: Job) -> float:
    """Bytes of chunks in host memory: q, k, v and output of the layers that keep them, or of the
    one whose backward is at work, and fp32 sums of its dq, of which one chunk is on the GPU.

    It is pinned memory, which torch hands out in powers of two.
    """
    if not job.chunk or job.chunks_at == "gpu":
        return 0.0
    layers = 1.0 if job.recompute in ("full", "selective") else job.layers
    if job.block:
        layers = max(1.0, job.layers - job.block) if job.recompute == "full" else job.layers
    summed = job.queries * 4 / job.number * (1 - min(1.0, job.chunk / job.network.seq_length))
    numbers = layers * (2 * job.queries + 2 * job.keys) + summed
    size = _chunk(job) * job.number
    return numbers * job.tokens * job.number * 2 ** math.ceil(math.log2(size)) / size


def _chunk(job: Job) -> float:
    """Numbers of a chunk's queries."""
    heads = job.network.num_attention_heads / job.tp / job.ulysses
    return min(job.chunk, job.network.seq_length) * job.network.head_size * heads * job.micro_batch


def gathered_bytes(job: Job, system: System) -> float:
    """Bytes of the hidden states of all tokens that sequence parallelism gathers at once."""
    hidden = job.network.hidden_size if job.sequence_parallel else 0
    return system.whole * hidden * job.tokens * job.number


def layer_bytes(job: Job, system: System) -> float:
    """Bytes of the layer whose backward is at work, beside what is kept."""
    at_once, gathered = job.tokens * job.number, gathered_bytes(job, system)
    sent = EXCHANGED * exchanged(job) * (job.tp - 1) / job.tp if system.pieces else 0.0
    if job.recompute not in OUTSIDE:
        scores = _scores(job, system) * (2 if job.recompute == "selective" else 1)
        remade = job.mlp / 2 if job.recompute == "pointwise" else 0.0
        mlp = job.hidden + job.mlp / 2 + remade
        # Attention's turn comes when what the MLP kept is gone
        of_mlp = job.mlp - remade
        around = job.queries + _ring(job) - of_mlp if job.ring > 1 else 0.0
        exchange = sent * job.tokens - of_mlp * at_once
        return max(mlp * at_once, around * at_once, exchange) + scores + gathered
    attention = system.outer * job.hidden + system.inner * job.queries + system.keys * job.keys
    if system.query_sums and job.device != "cpu":
        attention += job.queries * 4 / job.number
    if job.ring > 1:  # where gradients are sums in fp32 until the layer's own are made of them
        attention += _ring(job) - job.queries - 2 * job.keys
    # fp32 sums of the gradients of what follows attention, three quarters of a layer's parameters
    sums = 0.0 if system.room else 3.0 * job.layer_parameters
    if job.chunk:
        return _chunked_layer(job, system) + sums + gathered
    others = (job.group - 1) * job.hidden * at_once if job.group > 1 else 0.0
    size = attention * at_once + _scores(job, system) + sums
    # The MLP's turn comes before there are gradients of q, k and v
    own = max(system.inner - 1, 0) * job.queries + max(system.keys - 2, 0) * job.keys
    beside = (system.outer * job.hidden + own) * at_once
    rows = min(job.tile, job.tokens)
    several, half = rows < job.tokens, job.number == 2
    if sent:
        tile = rows * (sent + (kept_whole(job) - job.mlp / 2) * job.number)
    else:  # with attention's output once more, as the projection takes it
        tile = rows * (job.hidden + 2 * job.mlp) * job.number + job.queries * at_once
    if sent or system.tiles_mlp:
        # A tile's gradients are there until they are sums: beside the tile, if others were before
        given = 0.0 if system.room else 0.75 * job.layer_parameters * job.number
        most = tile + given if several else max(tile, given if half else 0.0)
        size = max(size, beside + sums + most)
    else:  # as it is written: the MLP's own, beside what attention keeps
        size = max(size, (kept_whole(job) + system.mlp * job.hidden) * at_once)
    return size + others + gathered


def _ring(job: Job) -> float:
    """Numbers a token of a ring (parallel/ring.py): the block at hand and the one that comes; fp32
    sums of the gradients; and what half of the heads give, or what both halves send and receive.
    """
    summed, groups = 4 / job.number, job.network.key_value_heads / job.tp / job.ulysses
    half = 0.5 if groups > 1 else 1.0
    part = half * (job.queries + 2 * job.keys)
    sums = job.queries + half * 2 * job.keys + (1 - half) * 4 * job.keys
    return 4 * job.keys + max(part + sums * summed, (job.queries + 4 * job.keys) * summed)


def _chunked_layer(job: Job, system: System) -> float:
    """Gradients of all tokens, and of a pair of chunks its gradients with their fp32 sums.

    In host memory wait q, k, v, output and the sums of all dq, and two chunks of each are here;
    else all of them are here. Ulysses ranks then have gradients as they come and as they go, and a
    message.
    """
    at_once, on_host = job.tokens * job.number, job.chunks_at == "cpu"
    gradients = system.outer * job.hidden
    gradients += (system.inner - 2) * job.queries + (system.keys - 2) * job.keys
    chunk, here = _chunk(job) * (4 * job.number + 12), gradients
    if on_host:
        here += system.beside * 2 * (job.queries + job.keys)
        chunk += _chunk(job) * (8 * job.number + 8)
    else:
        here += 2 * (job.queries + job.keys) + job.queries * 4 / job.number
    size = here * at_once + chunk
    later = gradients - job.queries  # of the output there is none any more
    if job.ulysses > 1:
        exchanging = job.queries + job.keys * (3 - 1 / job.ulysses)
        size = max(size, (later + exchanging) * at_once)
    tile = min(job.tile, job.tokens) * kept_whole(job) * job.number
    return max(size, later * at_once + tile)


def logit_bytes(job: Job, system: System) -> float:
    """Logits and what is made of them: of a tile in fp32 and once more as the layers count, with
    the gradient of its hidden states and a part of the table's; or of all tokens.
    """
    columns = job.vocabulary / job.tp
    if system.logit:
        return job.tokens * columns * system.logit
    hidden, half = job.network.hidden_size * job.number, job.number == 2
    part = min(BLOCK[_kind(job)] * job.number, columns * hidden) if half else 0.0
    if exchanged(job):  # it comes when what ranks have sent is gone
        part = 0.0
    return _head_tile(job) * (columns * (6 if half else 4) + hidden) + part


def exchanged_bytes(job: Job, system: System) -> float:
    """What ranks that share table and tokens send each other of a tile's hidden states."""
    return 0.0 if system.logit else (EXCHANGED - 1) * exchanged(job) * _head_tile(job)


def exchanged(job: Job) -> int:
    """Bytes of a token's hidden states, where the head gathers them."""
    return job.network.hidden_size * job.number if job.sequence_parallel else 0


def _head_tile(job: Job) -> float:
    """Tokens whose logits exist at once."""
    columns = int(job.vocabulary / job.tp)
    each = tile_tokens(_kind(job), columns, job.micro_batch, exchanged(job))
    return min(job.tokens, each * job.micro_batch)


def _kind(job: Job) -> str:
    return "cpu" if job.device == "cpu" else "gpu"
