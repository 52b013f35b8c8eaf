"""What one rank does in a step, in the numbers that memory and time follow from.

    job = job_of(config, vocabulary, policy)        # of this trainer
    Job(network, vocabulary=50304, tp=8, pp=4, dp=2)  # of any other (planning/systems.py)

Standard library only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from longseq.config.arguments import Config, Network
from longseq.config.optimizers import OPTIMIZERS
from longseq.memory.recompute_policy import RecomputePolicy

OUTSIDE = ("outside-attention", "full")  # with these backward makes layers again
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 2}  # of a number that layers pass on


@dataclass(frozen=True)
class Job:
    """A network, how ranks share it, and what is traded for memory.

    vocabulary: rows of the table, padded. pp: pipeline stages, of which this trainer has one, each
    of `virtual` parts that take turns.
    optimizer: a name of config/optimizers.py. optimizer_at, weights_at: gpu, cpu or nvme;
    inputs_at: gpu or cpu. recompute: none, selective, pointwise, outside-attention or full, in
    groups of `group` layers; or of the first `block` layers only, with `rest` of the others (none
    or pointwise). tile: tokens of all samples outside attention at once, 0: all. chunk: tokens of
    queries and keys that are on the GPU at once, 0: all. flash: scores are never all in memory, as
    with every kernel of this trainer. copied: bytes a parameter that a checkpoint's copy in host
    memory takes, 0 where there is none.
    """

    network: Network
    vocabulary: int
    tp: int = 1
    sequence_parallel: bool = False
    ulysses: int = 1
    ring: int = 1
    pp: int = 1
    virtual: int = 1
    dp: int = 1
    micro_batch: int = 1
    micro_batches: int = 1
    dtype: str = "bf16"
    zero: int = 0
    optimizer_at: str = "gpu"
    weights_at: str = "gpu"
    optimizer: str = "adam"
    inputs_at: str = "gpu"
    recompute: str = "none"
    group: int = 1
    block: int = 0
    rest: str = "none"
    tile: int = 0
    flash: bool = True
    chunk: int = 0
    chunks_at: str = "gpu"
    device: str = "cuda"
    copied: float = 0

    @property
    def ranks(self) -> int:
        return self.tp * self.sequence_ranks * self.pp * self.dp

    @property
    def sequence_ranks(self) -> int:
        return self.ulysses * self.ring

    @property
    def shards(self) -> int:
        """Ranks that hold the same weights, which ZeRO shares out between them."""
        return self.sequence_ranks * self.dp

    @property
    def tokens(self) -> float:
        """Tokens of a micro batch whose heads this rank works on; tp ranks share the heads."""
        return self.micro_batch * self.network.seq_length / self.sequence_ranks

    @property
    def layers(self) -> float:
        """Layers of this rank's pipeline stage."""
        return self.network.num_layers / self.pp

    @property
    def groups(self) -> float:
        """Groups of layers, of each of which one input is kept where layers are made again."""
        return math.ceil(self.layers / self.group) if self.group > 1 else self.layers

    @property
    def part(self) -> float:
        """Of all layers the part that backward makes again from their inputs."""
        if self.recompute not in OUTSIDE:
            return 0.0
        return self.block / self.layers if self.block else 1.0

    @property
    def again(self) -> float:
        """Forward passes through all layers that backward makes again: in groups two, as each
        layer is made for the next one's input and for itself.
        """
        return self.part * (2 if self.group > 1 else 1)

    @property
    def number(self) -> int:
        """Bytes of a number that layers pass on."""
        return BYTES[self.dtype]

    @property
    def hidden(self) -> float:
        """Numbers a token between layers: the tp ranks share them where the sequence is split."""
        return self.network.hidden_size / (self.tp if self.sequence_parallel else 1)

    @property
    def queries(self) -> float:
        """Numbers a token of this rank's query heads."""
        return self.network.num_attention_heads * self.network.head_size / self.tp

    @property
    def keys(self) -> float:
        """Numbers a token of this rank's key heads; Ulysses ranks repeat them to one each."""
        net = self.network
        return max(net.key_value_heads / self.tp, self.ulysses) * net.head_size

    @property
    def mlp(self) -> float:
        """Numbers a token that a rank's share of the MLP makes, inputs left out."""
        return self.network.ffn_size * (4 if self.network.swiglu else 2) / self.tp

    @cached_property
    def layer_parameters(self) -> float:
        """Parameters of one layer that this rank and the shards it is one of hold."""
        net = self.network
        whole = net.parameter_count(0)
        if not net.use_rotary_position_embeddings:
            whole -= net.positions * net.hidden_size
        return whole / net.num_layers / self.tp

    @cached_property
    def table_parameters(self) -> float:
        """Those of embedding, positions and head; a pipeline's first or last stage has one."""
        net = self.network
        tables = net.parameter_count(self.vocabulary) - net.parameter_count(0)
        if not net.use_rotary_position_embeddings:
            tables += net.positions * net.hidden_size
        if self.pp > 1:
            tables = self.vocabulary * net.hidden_size
        return tables / self.tp

    @property
    def largest_matrix(self) -> float:
        """Parameters of the largest matrix of a layer that a rank has."""
        net = self.network
        heads = net.num_attention_heads + 2 * net.key_value_heads
        widest = max(net.ffn_size * (2 if net.swiglu else 1), heads * net.head_size)
        return net.hidden_size * widest / self.tp

    @cached_property
    def parameters(self) -> float:
        """Parameters that this rank works with, before ZeRO cuts them up."""
        return self.layers * self.layer_parameters + self.table_parameters


def job_of(config: Config, vocabulary: int, policy: RecomputePolicy, device: str) -> Job:
    """The job of each rank of a checked run; `vocabulary` as the data have it."""
    net, axes, memory, train = config.network, config.layout, config.memory, config.training
    place = {"none": "gpu"}
    return Job(
        net,
        net.padded_vocabulary(vocabulary),
        tp=axes.tp,
        sequence_parallel=axes.sequence_parallel,
        ulysses=axes.ulysses,
        ring=axes.ring,
        dp=axes.dp,
        micro_batch=train.micro_batch_size,
        micro_batches=config.accumulation,
        dtype=train.dtype,
        zero=train.zero_stage,
        optimizer=train.optimizer,
        optimizer_at=place.get(train.offload_optimizer, train.offload_optimizer),
        weights_at=place.get(train.remote_device, train.remote_device),
        inputs_at="cpu" if policy.inputs_on_host else "gpu",
        recompute=policy.recompute,
        group=policy.layers if policy.method == "uniform" else 1,
        block=policy.layers if policy.method == "block" else 0,
        rest=policy.rest,
        tile=policy.tile * train.micro_batch_size,
        chunk=memory.ds_sequence_parallel_fpdt_chunk_size
        if memory.ds_sequence_parallel_fpdt
        else 0,
        chunks_at="cpu" if memory.ds_sequence_parallel_fpdt_offloading else "gpu",
        device=device,
        copied=OPTIMIZERS[train.optimizer].saved if config.copies else 0,
    )
