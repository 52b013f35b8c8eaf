"""How a run may be shared out and save memory: layouts, ZeRO, offload, recomputation.

    request = Request(groups, ranks=32, node=node, vocabulary=50304)
    for layout in layouts(ranks, heads): ways(layout, request, for_length=False)
    choice.config(request, tokens)      # the checked run; raises UserError
    choice.line(request, tokens)        # the environment line to type

Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from longseq.config.arguments import Config
from longseq.config.checks import make_config
from longseq.config.optimizers import OPTIMIZERS
from longseq.host.machine import Machine
from longseq.planning.gpus import Node

CHUNK = 65536


@dataclass(frozen=True)
class Request:
    """What is asked: the argument list as `groups` (config/arguments.py), ranks, node, words.

    vocabulary: as the data have it. typed: what a line to type sets beside layout and memory.
    """

    groups: Sequence[Any]
    ranks: int
    node: Node
    vocabulary: int
    typed: str = ""

    @property
    def machine(self) -> Machine:
        return Machine(self.node.gpu.capability)


@dataclass(frozen=True)
class Choice:
    """One way to train it. weights_on_host needs stage 3; chunks: attention in chunks on the host.

    recompute: none, pointwise, outside-attention or full; auto: as the trainer will choose.
    """

    tp: int = 1
    ulysses: int = 1
    ring: int = 1
    zero: int = 0
    micro_batch: int = 1
    recompute: str = "none"
    optimizer_on_host: bool = False
    weights_on_host: bool = False
    inputs_on_host: bool = False
    chunks: bool = False

    def config(self, request: Request, tokens: int = 0) -> Config:
        """The checked run; raises UserError. tokens: of a sample, 0: as asked."""
        network, layout, memory, training, data, run = request.groups
        if tokens:
            network = replace(network, seq_length=tokens, max_position_embeddings=0)
        layout = replace(
            layout,
            tensor_model_parallel_size=self.tp,
            sequence_parallel=self.tp > 1,
            ds_sequence_parallel_size=self.ulysses,
            context_parallel_size=self.ring,
        )
        memory = replace(
            memory,
            checkpoint_activations=False,
            recompute_granularity=self.recompute,
            checkpoint_in_cpu=self.inputs_on_host,
            ds_sequence_parallel_fpdt=self.chunks,
            ds_sequence_parallel_fpdt_offloading=self.chunks,
            ds_sequence_parallel_fpdt_chunk_size=CHUNK,
        )
        if self.ring > 1 or self.chunks:
            flags = [name for name in vars(memory) if name.startswith("use_flash_attn_")]
            memory = replace(memory, **{name: name.endswith("_sdpa") for name in flags})
        training = replace(
            training,
            zero_stage=self.zero,
            micro_batch_size=self.micro_batch,
            cpu_optimizer=self.optimizer_on_host,
            remote_device="cpu" if self.weights_on_host else "none",
            device="cuda",
        )
        groups = (network, layout, memory, training, data, run)
        return make_config(groups, request.ranks, request.machine)

    def line(self, request: Request, tokens: int) -> str:
        """What to type; arguments of the network that are behind -- go there as well."""
        words = [request.typed] if request.typed else []
        words += [
            f"NGPUS={request.ranks} MPSIZE={self.tp} SPSIZE={self.ulysses} RINGSIZE={self.ring}",
            f"SEQ_LEN={tokens} MICRO_BATCH={self.micro_batch} ZERO_STAGE={self.zero}",
        ]
        words += ["OFFLOAD_DEVICE=cpu"] if self.optimizer_on_host else []
        words += ["OFFLOAD_PARAM=cpu"] if self.weights_on_host else []
        words += ["USE_FLASH_ATTN=sdpa"] if self.ring > 1 or self.chunks else []
        flags = [f"--recompute-granularity {self.recompute}"] if self.recompute != "auto" else []
        flags += ["--checkpoint-in-cpu"] if self.inputs_on_host else []
        if self.chunks:
            flags += [f"--ds-sequence-parallel-fpdt --ds-sequence-parallel-fpdt-chunk-size {CHUNK}"]
            flags += ["--ds-sequence-parallel-fpdt-offloading"]
        return " ".join([*words, "./ALCF/train-gpt3.sh", *(["--", *flags] if flags else [])])

    def __str__(self) -> str:
        layout = f"tp {self.tp} x ulysses {self.ulysses} x ring {self.ring}, ZeRO {self.zero}"
        parts = [layout, f"micro batch {self.micro_batch}, recompute {self.recompute}"]
        on_host = {
            "optimizer": self.optimizer_on_host,
            "weights": self.weights_on_host,
            "layer inputs": self.inputs_on_host,
            "chunks": self.chunks,
        }
        waiting = [name for name, there in on_host.items() if there]
        return ", ".join(parts) + (f", on the host: {', '.join(waiting)}" if waiting else "")


def layouts(ranks: int, heads: int) -> Iterator[Choice]:
    """Every way to share out the ranks; data parallel ranks are what is left."""
    sizes = [n for n in range(1, ranks + 1) if ranks % n == 0]
    for tp, ulysses, ring in product(sizes, repeat=3):
        if ranks % (tp * ulysses * ring) == 0 and tp * ulysses <= heads:
            yield Choice(tp, ulysses, ring)


def ways(layout: Choice, request: Request, for_length: bool) -> Iterator[Choice]:
    """How memory may be saved on a layout; `for_length`: only what makes room."""
    shards = request.ranks // layout.tp
    stages = [0, 3] if shards == 1 else [3] if for_length else [1, 3]
    if OPTIMIZERS[request.groups[3].optimizer].whole_matrices:
        stages = [0]  # ZeRO would cut them up
    for zero in stages:
        hosts = [(False, False), (True, False), (True, True)][: zero + 1]  # weights: stage 3 only
        for optimizer, weights in hosts:
            some = replace(layout, zero=zero, optimizer_on_host=optimizer, weights_on_host=weights)
            yield from _recomputing(some, for_length)


def _recomputing(choice: Choice, for_length: bool) -> Iterator[Choice]:
    if not for_length:
        for micro, recompute in product((1, 2, 4), ("none", "pointwise", "outside-attention")):
            yield replace(choice, recompute=recompute, micro_batch=micro)
    full = replace(choice, recompute="full")
    yield from (full, replace(full, inputs_on_host=True))
    if choice.ring == 1:
        yield replace(full, inputs_on_host=True, chunks=True)
