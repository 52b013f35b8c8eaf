"""The parallel functions against plain torch, on two ranks; and what one process can say alone."""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from longseq.config.arguments import Layout
from longseq.parallel import mpi
from longseq.parallel.mesh import Group, Mesh, coordinates
from longseq.parallel.sharding import Sharding, shard_parameter, sharding_of
from longseq.parallel.ulysses import Ulysses, query_runs
from tests.gpu.syncs import counted
from tests.parallel.ranks import run_ranks
from tests.unit.parallel.two_ranks import BATCHED, CHECKS


def test_two_ranks_compute_what_one_does() -> None:
    batched = [f"{name}, batched" for name in BATCHED]
    assert run_ranks(2, Path(__file__).with_name("two_ranks.py")) == [*CHECKS, *batched]


def test_no_message_has_more_bytes_than_32_bits_count() -> None:
    """Open MPI 4 ends a rank that sends 2 GiB at once. This memory is never touched."""
    sizes: list[int] = []
    comm: Any = SimpleNamespace(
        Isend=lambda piece, _: sizes.append(piece.nbytes),
        Irecv=lambda piece, _: sizes.append(-piece.nbytes),
    )
    x = torch.empty((1 << 31) + 6, dtype=torch.bfloat16)
    mpi.send(x, 1, comm)
    sent = list(sizes)
    assert sum(sent) == 2 * len(x)
    assert max(sent) < 1 << 31
    mpi.receive(x, 1, comm)
    assert sizes[len(sent) :] == [-size for size in sent]


def test_coordinates_count_every_place_once_tensor_parallel_fastest() -> None:
    layout = Layout(2, ds_sequence_parallel_size=3, context_parallel_size=2, world_size=24)
    assert layout.axes == {"tp": 2, "ulysses": 3, "ring": 2, "dp": 2}
    found = [tuple(coordinates(rank, layout.axes).values()) for rank in range(24)]
    expected = itertools.product(*(range(size) for size in reversed(layout.axes.values())))
    assert found == [place[::-1] for place in expected]


def test_one_rank_has_groups_of_one() -> None:
    mesh, made = Mesh.single(), Mesh.create(Layout())
    assert mesh == made
    groups = (mesh.tp, mesh.ulysses, mesh.ring, mesh.dp, mesh.replicas)
    assert {(g.rank, g.size, g.handle) for g in groups} == {(0, 1, None)}


def test_torch_waits_longer_in_an_axis_than_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL's own time, --hang-timeout's default, would end all ranks and name none."""
    given: list[datetime.timedelta | None] = []

    def new_group(_members: list[int], timeout: datetime.timedelta | None = None) -> None:
        given.append(timeout)

    for name, of in (("get_rank", 0), ("get_backend", "nccl")):
        monkeypatch.setattr(dist, name, lambda *_, of=of: of)
    monkeypatch.setattr(dist, "new_group", new_group)
    Mesh.create(Layout(2, world_size=4))
    assert given == [datetime.timedelta(minutes=30)] * 6  # 2 of each of tp, dp and replicas


@pytest.mark.parametrize("heads", [4, 5, 7])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_query_heads_are_shared_out_evenly(heads: int, size: int) -> None:
    runs = query_runs(heads, size)
    assert [head for low, high in runs for head in range(low, high)] == list(range(heads))
    lengths = [high - low for low, high in runs]
    assert sorted(lengths, reverse=True) == lengths
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    ("heads", "groups", "size", "copied"),
    [
        (8, 2, 8, 0),
        (8, 2, 4, 0),
        (8, 8, 3, 0),
        (3, 1, 2, 0),
        (6, 3, 2, 2),
        (12, 4, 5, 0),
        (12, 3, 5, 1),
    ],
)
def test_key_heads_are_copied_where_a_kernel_could_not_share_them(
    heads: int, groups: int, size: int, copied: int
) -> None:
    """And then without waiting. Of 12 heads in 3 groups one of 5 ranks has heads 3 | 4 and 5."""
    found = 0
    for rank in range(size):
        exchange = Ulysses(Group("ulysses", rank, size), heads, groups)
        low, high = exchange.runs[rank]
        first, last = exchange.shared[rank]
        own = torch.tensor([head * groups // heads - first for head in range(low, high)])
        x, d = torch.randn(5, 2, last - first, 3), torch.randn(5, 2, high - low, 3)
        with counted(torch.device("cpu")) as places:
            apart, together = exchange._apart(x), exchange._together(d)
        assert places == {}
        if apart is x:
            assert together is d
            assert torch.equal(own, torch.arange(last - first).repeat_interleave(own.bincount()[0]))
            continue
        found += 1
        assert torch.equal(apart, x[:, :, own])
        torch.testing.assert_close(together, torch.zeros_like(x).index_add_(2, own, d))
    assert found == copied


def test_each_part_of_a_fused_matrix_is_sharded_by_itself() -> None:
    whole = torch.arange(8.0)[:, None].expand(8, 2)  # 4 rows of queries, 2 of keys, 2 of values
    pieces = [Sharding(0, (4, 2, 2), rank, 2) for rank in (0, 1)]
    assert [p.take(whole)[:, 0].tolist() for p in pieces] == [[0, 1, 4, 6], [2, 3, 5, 7]]
    assert pieces[0].whole_shape(torch.Size((4, 2))) == whole.shape
    marked = shard_parameter(nn.Parameter(whole.clone()), pieces[1])
    assert sharding_of(marked) == pieces[1]
    assert sharding_of(whole) is None
