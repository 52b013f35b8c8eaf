"""Where each ZeRO stage keeps weights and optimizer state.

    state = engine_state(engine, mesh)

0: whole parameters, or fp32 masters of them. 1 and 2: flat fp32 partitions, which cut parameters
anywhere. 3: a slice of each parameter, in sub-groups that may lie in files.
"""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

from longseq.checkpoint.state.engine_state import EngineState, Part
from longseq.engine.stage0 import BareOptimizer
from longseq.parallel.mesh import Mesh
from longseq.parallel.sharding import sharding_of


def engine_state(engine: Any, mesh: Mesh) -> EngineState:
    """What is to be saved of a DeepSpeed engine, or loaded into it."""
    stage = engine.zero_optimization_stage()
    return (WholeState, PartitionState, PartitionState, SliceState)[stage](engine, mesh)


def _whole_shape(parameter: Any, shape: Any) -> tuple[int, ...]:
    sharding = sharding_of(parameter)
    return tuple(sharding.whole_shape(shape) if sharding else shape)


class WholeState(EngineState):
    """Stage 0: every replica has everything, so each writes a part of the parameters."""

    def __init__(self, engine: Any, mesh: Mesh) -> None:
        super().__init__(engine, mesh)
        optimizer: BareOptimizer = self.optimizer
        self.pairs = list(zip(optimizer.weights, optimizer.masters, strict=True))

    def steppers(self) -> tuple[Any, ...]:
        inner = self.optimizer.inner
        return tuple(getattr(inner, "parts", (inner,)))

    def groups(self) -> list[tuple[Any, list[Part]]]:
        written = [0] * self.mesh.replicas.size
        found = []
        for weight, master in self.pairs:
            replica = written.index(min(written))
            written[replica] += weight.numel()
            sharding = sharding_of(weight)
            mine = replica == self.mesh.replicas.rank and self.mine(sharding)
            shape = _whole_shape(weight, weight.shape)
            name = self.names[id(weight)]
            found.append((master, [Part(name, shape, sharding, 0, weight.numel(), 0, mine)]))
        return found

    def release(self, number: int, changed: bool) -> None:
        weight, master = self.pairs[number]
        if changed and weight is not master:
            weight.detach().copy_(master.detach())


class PartitionState(EngineState):
    """Stages 1 and 2; DeepSpeed has another optimizer where bf16 gradients are summed in fp32."""

    def groups(self) -> list[tuple[Any, list[Part]]]:
        found, optimizer = [], self.optimizer
        if hasattr(optimizer, "bf16_groups"):
            flats, groups = optimizer.fp32_groups_flat_partition, optimizer.bf16_groups
        else:
            flats, groups = optimizer.single_partition_of_fp32_groups, optimizer.bit16_groups
        for flat, parameters in zip(flats, groups, strict=True):
            parts = []
            for parameter in parameters:
                if (link := parameter._hp_mapping) is None:
                    continue  # none of it is in this rank's partition
                here, there = link.lp_fragment_address, link.hp_fragment_address
                sharding, shape = sharding_of(parameter), _whole_shape(parameter, parameter.shape)
                name, mine = self.names[id(parameter)], self.mine(sharding)
                parts.append(Part(name, shape, sharding, here.start, here.numel, there.start, mine))
            found.append((flat, parts))
        return found

    def finish_loading(self) -> None:
        self.optimizer.update_lp_params()  # rounded, and gathered from all partitions


class SliceState(EngineState):
    """Stage 3: rank r of n has the r-th n-th of each parameter, the last one with padding."""

    def groups(self) -> list[tuple[Any, list[Part]]]:
        found = []
        flats = self.optimizer.fp32_partitioned_groups_flat
        for flat, parameters in zip(flats, self.optimizer.fp16_groups, strict=True):
            parts, at = [], 0
            for parameter in parameters:
                length = parameter.partition_numel()
                start = length * dist.get_rank(parameter.ds_process_group)
                count = min(length, parameter.ds_numel - start)
                sharding = sharding_of(parameter)
                shape = _whole_shape(parameter, parameter.ds_shape)
                name, mine = self.names[id(parameter)], self.mine(sharding)
                if count > 0:
                    parts.append(Part(name, shape, sharding, start, count, at, mine))
                at += length
            found.append((flat, parts))
        return found

    def hold(self, number: int) -> None:
        if self.optimizer._swappable_optimizer_subgroup(number):
            self.optimizer._optimizer_states_and_gradient_swap_in(number, set())

    def release(self, number: int, changed: bool) -> None:
        if changed:
            self.optimizer._reassign_or_swap_out_partitioned_parameters(number)
        if self.optimizer._swappable_optimizer_subgroup(number):
            self.optimizer._optimizer_states_and_gradient_swap_out(number, set())

    def step_group(self, number: int, group: Any) -> None:
        self.optimizer._optimizer_step(number)

    def begin_loading(self) -> None:
        self.optimizer._partition_all_parameters()

    def finish_loading(self) -> None:
        self.optimizer._post_step(set())
