"""The plan of one run: what it needs, whether that fits and how fast it is.

    found = make_plan(config, vocabulary, node)
    found.fits, found.peak_gib, found.by_kind["activations"], found.step_seconds

`as_json` gives what `longseq plan --json` prints; docs/plan.md says what each key means.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from longseq.attention.limits import KERNELS
from longseq.config.arguments import Config
from longseq.config.kernels import with_kernel
from longseq.config.optimizers import OPTIMIZERS
from longseq.host.machine import Machine
from longseq.memory.choosing import choose
from longseq.memory.job import Job, job_of
from longseq.memory.need import KINDS, Need, need
from longseq.memory.recompute_policy import RecomputePolicy
from longseq.memory.system import OURS
from longseq.planning.gpus import Gpu, Node
from longseq.planning.speed import Times, step_times
from longseq.planning.systems import Known
from longseq.run.throughput import again, rates

GIB = 2**30
SURE, HOPELESS = 0.92, 1.06  # of what there is: between them it is too close to say
REFUSED = 1.3  # before a queue: what needs more fits by no estimate
HOST_USABLE = 0.9  # of a node's memory: the rest is the system's and the data's
HOST_OWN = 4 * GIB  # of each rank: Python, libraries and batches
WRITER = 0.5e9  # bytes a second that a rank hashes, writes and flushes (docs/checkpoints.md)
SPREAD = 0.25  # of published speeds: half are nearer than this to what is planned for them


@dataclass(frozen=True)
class Plan:
    """What is planned for a run. `node` is None on a CPU, whose speed nobody knows."""

    job: Job
    policy: RecomputePolicy
    node: Node | None
    need: Need
    available: float
    times: Times | None
    speed: dict[str, float]
    parameters: int

    @property
    def checkpoint_bytes(self) -> float:
        """Weights and moments of the whole network in fp32, each once, whatever the layout."""
        return self.parameters * OPTIMIZERS[self.job.optimizer].saved

    @property
    def checkpoint_rate(self) -> tuple[float, str]:
        """Bytes a second at which a checkpoint is written, and what sets that: the ranks, each
        with a file of its own, the nodes' network cards, or the file system.
        """
        ranks = self.job.ranks
        rates = {"the ranks' writers": ranks * WRITER}
        if self.node:
            nodes = -(-ranks // self.node.gpus)
            rates["the nodes' network"] = nodes * self.node.network * 1e9
            if self.node.files:
                rates["the file system"] = self.node.files * 1e9
        name = min(rates, key=lambda name: rates[name])
        return rates[name], name

    @property
    def checkpoint_seconds(self) -> float:
        """Of a save; the training goes on meanwhile, and waits for a copy of it only."""
        return self.checkpoint_bytes / self.checkpoint_rate[0]

    @property
    def peak_gib(self) -> float:
        return self.need.total / GIB

    @property
    def by_kind(self) -> dict[str, float]:
        """GiB of a GPU by kind, at the moment at which it holds most."""
        return {kind: self.need.by_kind[kind] / GIB for kind in KINDS}

    @property
    def host_gib_per_node(self) -> float:
        if self.node is None:
            return 0.0
        ranks = min(self.node.gpus, self.job.ranks)
        return ranks * (sum(self.need.host.values()) + HOST_OWN) / GIB

    @cached_property
    def fullness(self) -> float:
        """The part that is needed of the GPU's memory, or of its host's: the greater.

        The host's is scaled so that the same bounds hold.
        """
        host = 0.0
        if self.node is not None:
            host = self.host_gib_per_node / self.node.host_gib * SURE / HOST_USABLE
        return max(self.need.total / self.available, host)

    @property
    def fits(self) -> str:
        """yes, close (too close to say) or no."""
        if self.fullness > HOPELESS:
            return "no"
        return "close" if self.fullness > SURE else "yes"

    @property
    def first_to_break(self) -> str:
        """What is too small, or nearest to it, and the kind that takes most of it."""
        if self.fullness > self.need.total / self.available:
            largest = max(self.need.host, key=lambda kind: self.need.host[kind], default="programs")
            return f"host memory ({largest})"
        by_kind = self.need.by_kind
        memory = "GPU memory" if self.node else "memory"
        return f"{memory} ({KINDS[max(by_kind, key=lambda kind: by_kind[kind])]})"

    @property
    def step_seconds(self) -> float | None:
        return self.times.seconds if self.times else None


def kernel_speed(config: Config, gpu: Gpu | None) -> float:
    """Of the run's attention kernel, over flash-attn 2's; the best one is what torch alone has on
    `gpu`, and without one as fast as that.
    """
    name = config.memory.kernel
    if name == "best" and gpu and gpu.capability > (0, 0):
        bare = Machine(gpu.capability, (("torch", "2"),))
        name = with_kernel(config, bare).memory.kernel
    return KERNELS[name].speed if name in KERNELS else 1.0


def make_plan(
    config: Config,
    vocabulary: int,
    node: Node | None,
    known: Known | None = None,
    available: float = 0.0,
    timed: bool = True,
) -> Plan:
    """The plan of a checked run on `node`s, or with `available` bytes a rank of a CPU.

    vocabulary: as the data have it. known: another system that would do it. timed: its speed too,
    which on a CPU nobody knows.
    """
    system = known.for_length(config.network.seq_length) if known else OURS
    device = "cuda" if node else "cpu"
    if node:
        available = node.gpu.gib * GIB
    policy = choose(config, vocabulary, available - (system.context if node else 0), device)
    job = job_of(config, vocabulary, policy, device)
    if known:
        job = known.job(job)
    times = None
    if node and timed:
        rate = system.attention * kernel_speed(config, None if known else node.gpu)
        times = step_times(job, node, replace(system, attention=rate))
    speed: dict[str, float] = {}
    if times:
        found = rates(
            config.network,
            vocabulary,
            batch=config.global_batch_size,
            seq_length=config.network.seq_length,
            ranks=config.layout.world_size,
            more=again(job.recompute, job.part),
            seconds=times.seconds,
        )
        speed = {
            "tokens_per_second": found.tokens_per_sec,
            "tflops": found.tflops,
            "model_tflops": found.model_tflops,
        }
    count = config.network.parameter_count(config.network.padded_vocabulary(vocabulary))
    plan = Plan(job, policy, node, need(job, system), available, times, speed, count)
    bare = replace(plan, need=need(replace(job, copied=0), system))
    return plan if plan.fits == bare.fits else bare  # a copy is made only where there is room


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan in numbers; what nobody knows, such as the speed of a CPU, is null."""
    return {
        "fits": plan.fits,
        "first_to_break": plan.first_to_break,
        "peak_gib": plan.peak_gib,
        "available_gib": plan.available / GIB,
        "by_kind": plan.by_kind,
        "moment": plan.need.moment,
        "recompute": plan.policy.describe(),
        "host_gib_per_node": plan.host_gib_per_node,
        "step_seconds": plan.step_seconds,
        "seconds_by_part": plan.times.parts if plan.times else None,
        "tokens_per_second": plan.speed.get("tokens_per_second"),
        "tflops": plan.speed.get("tflops"),
        "model_tflops": plan.speed.get("model_tflops"),
        "sent_gib": {k: v / GIB for k, v in plan.times.sent.items()} if plan.times else None,
        "parameters": plan.parameters,
        "checkpoint_gib": plan.checkpoint_bytes / GIB,
        "checkpoint_seconds": plan.checkpoint_seconds,
    }
