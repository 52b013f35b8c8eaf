"""Messages as a GPU's stream sees them: one waits in line until the other side's turn has come.

NCCL runs what one communicator is given in the order in which it is given; what starts as one batch
goes together. Messages by themselves have a communicator for each pair of ranks, which both have to
make before either goes on (torch's ProcessGroupNCCL). Here every rank says what it would start, and
the lines are then worked off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist

from longseq.parallel import collectives
from longseq.parallel import ring as ring_attention
from longseq.parallel.mesh import Group


class Message(NamedTuple):
    """`gives`: to the peer, or from it."""

    gives: bool
    peer: int


class Done:
    def wait(self) -> None: ...


Line = list[list[Message]]  # what one rank starts: batches, one behind the other
HERE: Line = []


def start(messages: list[Message]) -> list[Done]:
    HERE.append(messages)
    return [Done()]


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.distributed writes down what it is asked for."""

    class Op:
        def __init__(self, op: Any, x: Any, group: Any, group_peer: int) -> None:
            self.message = Message(op is dist.isend, group_peer)

    def send(x: Any, group: Any, group_dst: int) -> Done:
        return start([Message(True, group_dst)])[0]

    def receive(x: Any, group: Any, group_src: int) -> Done:
        return start([Message(False, group_src)])[0]

    monkeypatch.setattr(dist, "isend", send)
    monkeypatch.setattr(dist, "irecv", receive)
    monkeypatch.setattr(dist, "P2POp", Op)
    monkeypatch.setattr(dist, "batch_isend_irecv", lambda ops: start([x.message for x in ops]))


def stuck(lines: list[Line]) -> list[int]:
    """Ranks whose line does not end: a message goes when both of its ends stand first in line."""
    left = [[set(batch) for batch in line] for line in lines]
    moved = True
    while moved:
        moved = False
        for rank, line in enumerate(left):
            for message in list(line[0]) if line else ():
                other = left[message.peer]
                back = Message(not message.gives, rank)
                if other and back in other[0]:
                    line[0].remove(message)
                    other[0].remove(back)
                    moved = True
            if line and not line[0]:
                line.pop(0)
                moved = True
        for line in left:
            if line and not line[0]:
                line.pop(0)
    return [rank for rank, line in enumerate(left) if line]


def lines_of(size: int, program: Callable[[Group], object], batched: bool = True) -> Iterator[Line]:
    """What each rank of so many starts in `program`."""
    for rank in range(size):
        HERE.clear()
        program(Group("tp", rank, size, None, None, batched))
        yield list(HERE)


def pieces(size: int) -> list[torch.Tensor]:
    return [torch.zeros(1, 2)] * size


def linear_backward(group: Group) -> None:
    """A gather and a sum side by side, as in ColumnParallelLinear's backward."""
    again, total = collectives.Gather(torch.zeros(1, 2), group), collectives.ScatterSum(group)
    for rank in total.order():
        total.give(rank, torch.zeros(1, 2))
    list(again.pieces())
    total.result()


def ring(group: Group) -> None:
    """Keys and values on their way while a sum is, as in the ring's backward."""
    coming = collectives.shift(torch.zeros(2), group)
    for _ in range(group.size):
        following = collectives.shift(torch.zeros(2), group)
        coming.wait()
        coming = following


PROGRAMS: dict[str, Callable[[Group], object]] = {
    "shift": lambda group: collectives.shift(torch.zeros(2), group).wait(),
    "all_gather": lambda group: collectives.all_gather(torch.zeros(2), group),
    "reduce_scatter": lambda group: collectives.reduce_scatter(torch.zeros(group.size), group),
    "all_to_all": lambda group: collectives.all_to_all(
        pieces(group.size), [(1, 2)] * group.size, group
    ),
    "linear, backward": linear_backward,
    "ring, backward": ring,
}


@pytest.mark.parametrize("size", [2, 3, 4, 8])
@pytest.mark.parametrize("name", PROGRAMS)
def test_no_rank_waits_for_ever(name: str, size: int) -> None:
    lines = list(lines_of(size, PROGRAMS[name]))
    assert all(lines)
    assert stuck(lines) == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_one_by_one_they_would(name: str) -> None:
    """What gloo and MPI get would stand still on a stream; this test's lines see it."""
    assert stuck(list(lines_of(2, PROGRAMS[name], batched=False))) == [0, 1]


def test_gradients_of_half_the_heads_travel_while_the_other_half_is_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A ring's backward; blocks of keys and values are left out of what is told."""
    told: list[str] = []

    class Shift:
        def __init__(self, x: torch.Tensor, group: Group) -> None:
            self.x, self.number = x, sum("sends" in line for line in told)
            if x.dtype == torch.float32:
                told.append(f"sends {self.number}")

        def wait(self) -> torch.Tensor:
            if self.x.dtype == torch.float32:
                told.append(f"waits for {self.number}")
            return self.x

    def forward(q: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros_like(q), torch.zeros(q.shape[:3])

    def backward(*block: Any) -> tuple[torch.Tensor, ...]:
        told.append(f"works on {block[1].shape[1]} heads of {block[2].shape[1]}")
        return tuple(torch.zeros_like(x) for x in block[1:4])

    monkeypatch.setattr(ring_attention, "shift", Shift)
    monkeypatch.setattr(ring_attention, "blocks", lambda _: (forward, backward))
    q, k = (torch.zeros(4, 1, n, 8, dtype=torch.bfloat16, requires_grad=True) for n in (4, 2))
    ring_attention.ring(Group("ring", 0, 2))(q, k, k, None, None).sum().backward()
    work = "works on 2 heads of 1"
    assert told == [
        *(work, "sends 0", work, "sends 1"),
        *("waits for 0", work, "sends 2", "waits for 1", work, "sends 3"),
        *("waits for 2", "waits for 3"),
    ]
