"""The estimator: bytes a rank needs, by kind.

What chooses recomputation, what `longseq plan` prints and what a run is held to are all this:

    found = needed(config, vocabulary, policy, "cuda")      # or need(job), of any job and system
    found.total, found.by_kind["activations"], found.host["optimizer"]

A step has seven moments at which a rank can hold most, from the head, when nothing has a gradient,
to the update. What follows from parameters stands through all of them (states.py), what follows
from tokens comes and goes (activations.py). Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from longseq.config.arguments import Config
from longseq.host.machine import has_avx512
from longseq.memory.activations import (
    chunks_on_host,
    exchanged_bytes,
    gathered_bytes,
    inputs,
    kept_bytes,
    layer_bytes,
    logit_bytes,
    recomputed_bytes,
)
from longseq.memory.job import OUTSIDE, Job, job_of
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.memory.states import (
    bucket,
    copied_bytes,
    gathered_weights,
    sent,
    standing_bucket,
    states,
    summed,
    table_part,
    tables,
    update_bytes,
)
from longseq.memory.system import OURS, System

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
    "checkpoint": "a checkpoint's copy",
    "programs": "what is no tensor, on a CPU",
}
# What a rank on a CPU takes with its first steps that is no tensor: pages of libraries, objects of
# Python; where it has other ranks to talk to, gloo's; in half precision on a CPU with AVX-512 what
# oneDNN compiles for each shape of product, some 0.6 MiB each. Measured: docs/simulate.md.
PROGRAM, GLOO, ONEDNN = 25 * 2**20, 22 * 2**20, 16 * 2**20


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

    @property
    def passing(self) -> float:
        """What a step takes beside all that stands between steps, and gives back."""
        stands = ("weights", "optimizer", "checkpoint", "programs", "context")
        return self.total - sum(self.by_kind[kind] for kind in stands)


def needed(
    config: Config,
    vocabulary: int,
    policy: RecomputePolicy,
    device: str = "cpu",
    copied: bool = True,
) -> Need:
    """What a rank of this run needs; `vocabulary` as the data have it. copied: False where a
    checkpoint's copy was not made, though the flags ask for saves beside the training.
    """
    job = job_of(config, vocabulary, policy, device)
    return need(job if copied else replace(job, copied=0))


def need(job: Job, system: System = OURS) -> Need:
    """What a rank of `job` needs as `system` trains it."""
    stand, host = states(job, system)
    passing = _moments(job, system, stand["gradients"])
    moment = max(passing, key=lambda name: sum(passing[name].values()))
    by_kind = dict.fromkeys(KINDS, 0.0) | stand | passing[moment]
    if job.inputs_at == "cpu":
        host["activations"] = inputs(job) * job.number * job.tokens
    if chunks := chunks_on_host(job):
        host["chunks"] = chunks
    if job.copied:
        host["checkpoint"] = copied_bytes(job)
    if job.device == "cpu":  # where everything is in the host's memory
        for kind, size in host.items():
            by_kind[kind if kind in KINDS else "layer"] += size
        by_kind["programs"] = _programs(job)
        return Need(by_kind, {}, moment)
    grown = ("gradients", "collectives")  # in one piece, or by messages of one size
    comes = (size for kind, size in passing[moment].items() if kind not in grown)
    by_kind["slack"] = system.slack * sum(comes)
    by_kind["context"] = system.context
    return Need(by_kind, host, moment)


def _programs(job: Job) -> float:
    """Bytes of a rank on a CPU, this machine's, that are no tensor."""
    others = GLOO if job.shards * job.tp * job.pp > 1 else 0
    compiled = ONEDNN if job.number == 2 and has_avx512() else 0
    return PROGRAM + others + compiled


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
    whole, stands = gathered_weights(job, system), standing_bucket(job, system)
    message = max(stands, bucket(job) * sent(job, system))
    forward = {"collectives": whole + exchanged_bytes(job, system) + stands}
    begun = {"collectives": whole + bucket(job) * job.number}
    backward = {"collectives": whole + message}
    head = kept + 2 * passing_hidden
    logits = logit_bytes(job, system) + (table * 4 / job.number if in_tiles else 0.0)
    # Once there, and its gradient: what sequence parallelism gathers
    gathered = gathered_bytes(job, system) / 2
    found = {
        "the head": {"activations": head, "layer": gathered, "logits": logits} | first | forward,
        "backward of a layer": {"activations": kept, "layer": layer, "logits": waiting}
        | (last if job.zero == 2 and job.shards > 1 else first)  # room comes with the first bucket
        | (backward if system.room or job.zero >= 3 else begun),
        "the update": last | {"collectives": stands} | update_bytes(job, system),
    }
    if job.block:  # backward comes to the first ones when what the others kept is gone
        others = job.layers - job.block
        done = gradients * others * job.layer_parameters / job.parameters
        last_ones = found["backward of a layer"]
        found["backward of a recomputed layer"] = (
            last_ones
            | backward
            | {
                "activations": recomputed_bytes(job, job.block),
                "gradients": max(last_ones["gradients"], done),
            }
        )
        last_ones["layer"] = layer_bytes(replace(job, recompute=job.rest, block=0), system)
    if not system.room:
        first_one = kept / job.layers
        if job.recompute in OUTSIDE:
            first_one = recomputed_bytes(job, 1)
        # A layer that is made again gives its gradients at its end: by then those of the others
        # have been summed at stage 1, and are still on their way at stage 2
        again = job.recompute in OUTSIDE
        mine = job.layer_parameters / job.parameters if again and job.zero < 2 else 0.0
        found["backward of the first layer"] = {
            "activations": first_one,
            "layer": layer,
            "gradients": gradients * (1 - mine),
        } | (begun if job.zero == 1 else backward)
        if again and job.zero == 2:
            found["backward of the first layer"]["collectives"] = message / 2
        found["backward of the embedding"] = {
            "activations": 2 * passing_hidden,
            "gradients": gradients * (1 if job.zero >= 3 else 1 - table_part(job)),
            "logits": tables(job) * table,
            "collectives": min(whole, table) + message,
        }
        if job.zero == 0 and job.shards > 1:
            found["the sum of gradients"] = last | {"collectives": summed(job, system)}
    return {moment: kinds | batch for moment, kinds in found.items()}
