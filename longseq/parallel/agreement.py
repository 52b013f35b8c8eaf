"""How the ranks tell each other small things outside the step: files written, errors met, stops
asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def _alone(item: Any) -> list[Any]:
    return [item]


@dataclass(frozen=True)
class Ranks:
    """This rank's number, their count, and two collectives: all items, the largest number."""

    rank: int = 0
    size: int = 1
    gather: Callable[[Any], list[Any]] = _alone
    largest: Callable[[int], int] = int

    def wait(self) -> None:
        """Go on when every rank has come here."""
        self.gather(None)


def torch_ranks(group: ProcessGroup | None = None) -> Ranks:
    """The ranks of torch.distributed (of `group`; best a gloo one, the items live in host
    memory).
    """
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        return Ranks()
    size = dist.get_world_size(group)
    if size == 1:  # a GPU would be waited for, to hear its own answer
        return Ranks()

    def gather(item: Any) -> list[Any]:
        items: list[Any] = [None] * size
        dist.all_gather_object(items, item, group=group)
        return items

    device = {"nccl": "cuda", "xccl": "xpu"}.get(dist.get_backend(group), "cpu")

    def largest(number: int) -> int:
        value = torch.tensor(number, device=device)
        dist.all_reduce(value, dist.ReduceOp.MAX, group=group)
        return int(value)

    return Ranks(dist.get_rank(group), size, gather, largest)
