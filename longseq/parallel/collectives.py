"""Every exchange between ranks goes through these functions; on a group of one each is free.

Tensors are split and joined along dim 0, in rank order. Two styles:

- whole: `all_reduce`, `all_gather`, `reduce_scatter` return the finished result;
- in pieces: `Gather` and `ScatterSum` move one rank's piece at a time, so that a matmul on the
  pieces at hand hides the transfer of the others.

Gathers and scatters are made of point-to-point messages: besides hiding behind the matmul, gloo's
own reduce_scatter and all_gather take longer than exchanging the same pieces. CPU ranks that an MPI
launcher started talk through MPI (mpi.py, benchmarks/speed/collectives.py).

On GPUs a message waits in line on its stream until the other side's turn has come: two ranks that
each receive before they send wait for ever. There what is sent and what is received in one step
start as one batch, and every rank takes the steps in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from longseq.parallel import mpi
from longseq.parallel.mesh import Group

Message = tuple[Tensor, int, Tensor, int]  # x and who gets it; room, and whose x goes there


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
    total, pieces = ScatterSum(group), x.chunk(group.size)
    for rank in total.order():
        total.give(rank, pieces[rank])
    return total.result()


def all_to_all(
    pieces: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], group: Group
) -> list[Tensor]:
    """Send `pieces[r]` to rank r; returns what each rank sent here, item r of shape `shapes[r]`."""
    result: list[Tensor] = [pieces[group.rank]] * group.size
    messages: list[Message] = []
    for step in range(1, group.size):
        to, source = _partners(group, step)
        result[source] = pieces[0].new_empty(shapes[source])
        messages.append((pieces[to].contiguous(), to, result[source], source))
    for request in _exchange(messages, group):
        request.wait()
    return result


class shift:
    """Start sending `x` to the next rank of the ring; `wait()` returns the previous rank's `x`."""

    def __init__(self, x: Tensor, group: Group) -> None:
        """x of any shape, the same on every rank."""
        self._sent, self._result = x.contiguous(), torch.empty_like(x.contiguous())
        after, before = _partners(group, 1)
        self._requests = _exchange([(self._sent, after, self._result, before)], group)

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
        self._coming: list[tuple[int, Tensor, Any]] = []
        self._going: list[Any] = []
        for step in range(1, group.size):
            to, source = _partners(group, step)
            buffer = torch.empty_like(self._own)
            coming, *going = _exchange([(self._own, to, buffer, source)], group)
            self._coming.append((source, buffer, coming))
            self._going += going

    def pieces(self) -> Iterator[tuple[int, Tensor]]:
        """(rank, its piece [n, …]) for every rank of the group; each piece is safe to keep."""
        yield self._group.rank, self._own
        for source, buffer, coming in self._coming:
            coming.wait()
            yield source, buffer
        for going in self._going:
            going.wait()


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
        self._going: list[tuple[Tensor, list[Any]]] = []
        self._coming: dict[int, tuple[Tensor, Any]] = {}

    def order(self) -> list[int]:
        """The order in which to compute pieces: the own one last, while the others travel."""
        rank, size = self._group.rank, self._group.size
        return [(rank + step) % size for step in range(1, size + 1)]

    def give(self, rank: int, piece: Tensor) -> None:
        """Send `piece` [n, …] to `rank`, or keep it if that is this one; then leave it alone.

        In the order that `order` says.
        """
        group = self._group
        if not self._coming and not group.batched:
            self._expect(piece)
        if rank == group.rank:
            self._own = piece
            return
        piece = piece.contiguous()
        if group.batched:
            source = (2 * group.rank - rank) % group.size  # as far before as `rank` is behind
            buffer = _like(piece)
            coming, *going = _exchange([(piece, rank, buffer, source)], group)
            self._coming[source] = buffer, coming
        else:
            going = [_send(piece, rank, group)]
        self._going.append((piece, going))

    def _expect(self, like: Tensor) -> None:
        """Post the receives first: gloo moves nothing before the other side has asked for it."""
        for source in self.order()[:-1][::-1]:
            buffer = _like(like)
            self._coming[source] = buffer, _receive(buffer, source, self._group)

    def result(self) -> Tensor:
        """This rank's sum [n, …], added in rank order so that it does not depend on arrival.

        Into what has come, which nobody else has: the own piece may be part of what the caller
        still needs.
        """
        assert self._own is not None
        total: Tensor | None = None
        for rank in range(self._group.size):
            if rank == self._group.rank:
                piece = self._own
            else:
                piece, request = self._coming.pop(rank)
                request.wait()
            if total is None:
                total = piece
            else:
                total = piece.add_(total) if total is self._own else total.add_(piece)
        for _, going in self._going:
            for request in going:
                request.wait()
        assert total is not None
        return total


def _like(x: Tensor) -> Tensor:
    """Room for what has the shape of x; contiguous."""
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _partners(group: Group, step: int) -> tuple[int, int]:
    """Whom this rank sends to in a step of 1 … size-1, and from whom it receives."""
    return (group.rank + step) % group.size, (group.rank - step) % group.size


def _exchange(messages: list[Message], group: Group) -> list[Any]:
    """Start to send each contiguous `x` and to fill each `result`, on GPUs all at once.

    The first request is done when the first result is there, all of them when all is done.
    """
    requests, batch = [], []
    for x, to, result, source in messages:
        if group.batched:
            batch += [
                dist.P2POp(dist.irecv, result, group=group.handle, group_peer=source),
                dist.P2POp(dist.isend, x, group=group.handle, group_peer=to),
            ]
        else:
            requests += [_receive(result, source, group), _send(x, to, group)]
    return dist.batch_isend_irecv(batch) if batch else requests


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
