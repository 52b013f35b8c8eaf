"""Every exchange between ranks goes through these functions; on a group of one each is free.

Tensors are split and joined along dim 0, in rank order. Two styles:

- whole: `all_reduce`, `all_gather`, `reduce_scatter` return the finished result;
- in pieces: `Gather` and `ScatterSum` move one rank's piece at a time, so that a matmul on the
  pieces at hand hides the transfer of the others.

Gathers and scatters are made of point-to-point messages: besides hiding behind the matmul, gloo's
own reduce_scatter and all_gather take longer than exchanging the same pieces. CPU ranks that an MPI
launcher started talk through MPI (mpi.py, benchmarks/speed/collectives.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from longseq.parallel import mpi
from longseq.parallel.mesh import Group


def all_reduce(x: Tensor, group: Group, maximum: bool = False) -> Tensor:
    """Sum (or maximum) of `x`, of any shape, in place; bitwise the same on every rank."""
    if group.comm is not None and x.dtype in mpi.REDUCIBLE:
        whole = x.contiguous()
        mpi.all_reduce(whole, group.comm, maximum)
        return whole if whole is x else x.copy_(whole)
    if group.size > 1:
        op = dist.ReduceOp.MAX if maximum else dist.ReduceOp.SUM
        dist.all_reduce(x, op, group=group.handle)
    return x


def all_gather(x: Tensor, group: Group) -> Tensor:
    """[n, …] on each rank → [size·n, …], in rank order."""
    if group.size == 1:
        return x
    gather = Gather(x, group)
    pieces = dict(gather.pieces())
    return torch.cat([pieces[rank] for rank in range(group.size)])


def reduce_scatter(x: Tensor, group: Group) -> Tensor:
    """[size·n, …] on each rank → this rank's [n, …] of the sum."""
    if group.size == 1:
        return x
    total = ScatterSum(group)
    for rank, piece in enumerate(x.chunk(group.size)):
        total.give(rank, piece)
    return total.result()


def all_to_all(
    pieces: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], group: Group
) -> list[Tensor]:
    """Send `pieces[r]` to rank r; returns what each rank sent here, item r of shape `shapes[r]`."""
    result: list[Tensor] = [pieces[group.rank]] * group.size
    requests, kept = [], []
    for step in range(1, group.size):
        to, source = (group.rank + step) % group.size, (group.rank - step) % group.size
        result[source] = pieces[0].new_empty(shapes[source])
        kept.append(pieces[to].contiguous())
        requests.append(_receive(result[source], source, group))
        requests.append(_send(kept[-1], to, group))
    for request in requests:
        request.wait()
    return result


class shift:
    """Start sending `x` to the next rank of the ring; `wait()` returns the previous rank's `x`."""

    def __init__(self, x: Tensor, group: Group) -> None:
        """x of any shape, the same on every rank."""
        self._sent, self._result = x.contiguous(), torch.empty_like(x.contiguous())
        before, after = (group.rank - 1) % group.size, (group.rank + 1) % group.size
        self._requests = (
            _receive(self._result, before, group),
            _send(self._sent, after, group),
        )

    def wait(self) -> Tensor:
        """The previous rank's tensor, in the shape of `x`."""
        for request in self._requests:
            request.wait()
        return self._result


class Gather:
    """An all-gather in pieces: the own one first and at once, the others as they arrive.

    for rank, piece in Gather(x, group).pieces(): …      # each piece of x's shape
    """

    def __init__(self, x: Tensor, group: Group) -> None:
        """Start sending this rank's piece x [n, …], the same shape on every rank."""
        self._own, self._group = x.contiguous(), group
        self._sends, self._receives = [], []
        for step in range(1, group.size):
            to, source = (group.rank + step) % group.size, (group.rank - step) % group.size
            buffer = torch.empty_like(self._own)
            self._sends.append(_send(self._own, to, group))
            self._receives.append((source, buffer, _receive(buffer, source, group)))

    def pieces(self) -> Iterator[tuple[int, Tensor]]:
        """(rank, its piece [n, …]) for every rank of the group; each piece is safe to keep."""
        yield self._group.rank, self._own
        for source, buffer, request in self._receives:
            request.wait()
            yield source, buffer
        for request in self._sends:
            request.wait()


class ScatterSum:
    """A reduce-scatter in pieces: each piece is sent as soon as it has been computed.

    total = ScatterSum(group)
    for rank in total.order():
        total.give(rank, piece)      # this rank's summand of what `rank` gets, [n, …]
    y = total.result()               # the sum of what all ranks gave for this one, [n, …]
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._own: Tensor | None = None
        self._sends: list[tuple[Tensor, Any]] = []
        self._receives: dict[int, tuple[Tensor, Any]] = {}

    def order(self) -> list[int]:
        """The order in which to compute pieces: the own one last, while the others travel."""
        rank, size = self._group.rank, self._group.size
        return [(rank + step) % size for step in range(1, size + 1)]

    def give(self, rank: int, piece: Tensor) -> None:
        """Send `piece` [n, …] to `rank`, or keep it if that is this one; then leave it alone."""
        if not self._receives:
            self._expect(piece)
        if rank == self._group.rank:
            self._own = piece
        else:
            piece = piece.contiguous()
            self._sends.append((piece, _send(piece, rank, self._group)))

    def _expect(self, like: Tensor) -> None:
        """Post the receives first: gloo moves nothing before the other side has asked for it."""
        for source in self.order()[:-1][::-1]:
            buffer = torch.empty(like.shape, dtype=like.dtype, device=like.device)
            self._receives[source] = buffer, _receive(buffer, source, self._group)

    def result(self) -> Tensor:
        """This rank's sum [n, …], added in rank order so that it does not depend on arrival."""
        assert self._own is not None
        total: Tensor | None = None
        for rank in range(self._group.size):
            if rank == self._group.rank:
                piece = self._own
            else:
                piece, request = self._receives[rank]
                request.wait()
            total = piece if total is None else total + piece
        for _, request in self._sends:
            request.wait()
        assert total is not None
        return total


def _send(x: Tensor, to: int, group: Group) -> Any:
    """A request: contiguous `x`, of any shape, is on its way."""
    if group.comm is not None:
        return mpi.send(x, to, group.comm)
    return dist.isend(x, group=group.handle, group_dst=to)


def _receive(x: Tensor, source: int, group: Group) -> Any:
    """A request: contiguous `x`, of any shape, is being filled."""
    if group.comm is not None:
        return mpi.receive(x, source, group.comm)
    return dist.irecv(x, group=group.handle, group_src=source)
