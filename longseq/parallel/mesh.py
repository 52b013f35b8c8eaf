"""Which rank belongs to which groups: world = tp × ulysses × ring × dp, tp varying fastest.

    mesh = Mesh.create(config.layout)      # collective: every rank calls it once
    mesh.tp, mesh.ulysses, mesh.ring, mesh.dp   # one Group an axis
    mesh.replicas                          # ranks over which gradients are averaged and ZeRO shards

A group of one has no process group behind it; every collective on it is the identity.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from longseq.config.arguments import LONGEST_EXCHANGE, Layout
from longseq.parallel import mpi

# NCCL's own is as long as --hang-timeout's default, which tells more
COLLECTIVE_TIMEOUT = datetime.timedelta(seconds=LONGEST_EXCHANGE)
ON_STREAMS = ("nccl", "xccl")  # backends whose messages wait in line (collectives.py)
SPANS = {"replicas": {"ulysses", "ring", "dp"}}  # groups that span several axes


@dataclass(frozen=True)
class Group:
    """One rank's view of one axis: `rank` of `size`, and when size > 1 torch's handle and MPI's.

    batched: its messages wait in line on a GPU's stream (collectives.py).
    """

    name: str
    rank: int = 0
    size: int = 1
    handle: dist.ProcessGroup | None = None
    comm: Any | None = None
    batched: bool = False


@dataclass(frozen=True)
class Mesh:
    """All groups that this rank is a member of."""

    tp: Group
    ulysses: Group
    ring: Group
    dp: Group
    replicas: Group
    sequence_parallel: bool = False

    @classmethod
    def single(cls) -> Mesh:
        """The mesh of one rank, without torch.distributed."""
        groups = {name: Group(name) for name in (*Layout().axes, *SPANS)}
        return cls(**groups, sequence_parallel=False)

    @classmethod
    def create(cls, layout: Layout) -> Mesh:
        """Make all groups in the same order on every rank; torch.distributed must be running."""
        rank = dist.get_rank() if layout.world_size > 1 else 0
        sizes = layout.axes
        comm = None
        if layout.world_size > 1 and dist.get_backend() == "gloo":
            comm = mpi.world(rank, layout.world_size)
        axes = {name: {name} for name in sizes} | SPANS
        groups = {name: _group(name, chosen, sizes, rank, comm) for name, chosen in axes.items()}
        return cls(**groups, sequence_parallel=layout.sequence_parallel)

    @property
    def token_region(self) -> int:
        """A number that two ranks share exactly when they hold the same tokens between layers."""
        inner = self.tp.rank if self.sequence_parallel else 0
        return self.replicas.rank * self.tp.size + inner


def coordinates(rank: int, sizes: dict[str, int]) -> dict[str, int]:
    """The rank's index on each axis, the first axis varying fastest."""
    result = {}
    for name, size in sizes.items():
        rank, result[name] = divmod(rank, size)
    return result


def _group(name: str, axes: set[str], sizes: dict[str, int], rank: int, comm: Any | None) -> Group:
    """The group of ranks that differ only on `axes`; made on all ranks, kept on its members."""
    families: dict[tuple[int, ...], list[int]] = {}
    for other in range(math.prod(sizes.values())):
        at = coordinates(other, sizes)
        families.setdefault(tuple(at[axis] for axis in sizes if axis not in axes), []).append(other)
    mine = Group(name)
    for members in families.values():
        handle = dist.new_group(members, COLLECTIVE_TIMEOUT) if len(members) > 1 else None
        if rank in members:
            own = mpi.subset(comm, members) if comm and len(members) > 1 else None
            batched = handle is not None and dist.get_backend(handle) in ON_STREAMS
            mine = Group(name, members.index(rank), len(members), handle, own, batched)
    return mine
