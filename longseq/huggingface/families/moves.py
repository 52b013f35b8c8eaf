"""How tensors pass from our checkpoints to another form and back: each move goes both ways.

move = split("layers.0.attention.qkv.weight", (q, k, v), (64, 16, 16))
q, k, v = move.out([qkv])
[qkv] = move.back([q, k, v])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Several = Sequence[Tensor]


@dataclass(frozen=True)
class Move:
    """Tensors of ours that together hold the numbers of some of theirs."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    out: Callable[[Several], Several]
    back: Callable[[Several], Several]


def same(ours: str, theirs: str) -> Move:
    """The same tensor under another name."""
    return Move((ours,), (theirs,), list, list)


def transposed(ours: str, theirs: str) -> Move:
    """[out, in] of nn.Linear as [in, out]."""

    def turn(tensors: Several) -> Several:
        return [tensor.t() for tensor in tensors]

    return Move((ours,), (theirs,), turn, turn)


def split(ours: str, theirs: Sequence[str], rows: Sequence[int]) -> Move:
    """Our rows are theirs one after another, `rows` of each."""
    return Move(
        (ours,),
        tuple(theirs),
        lambda tensors: tensors[0].split(list(rows)),
        lambda tensors: [torch.cat(list(tensors))],
    )


def by_head(ours: str, theirs: str, heads: int) -> Move:
    """[3 · heads · d, …]: our rows are all queries, all keys, all values; theirs those of one head
    after the other.
    """

    def order(tensor: Tensor, first: int, second: int) -> Tensor:
        apart = tensor.unflatten(0, (first, second, -1))
        return apart.transpose(0, 1).flatten(0, 2)

    return Move(
        (ours,),
        (theirs,),
        lambda tensors: [order(tensors[0], 3, heads)],
        lambda tensors: [order(tensors[0], heads, 3)],
    )


def joined(ours: Sequence[str], theirs: str, rows: int) -> Move:
    """Ours one after another are one of theirs; each of ours but the last has `rows` rows."""
    return Move(
        tuple(ours),
        (theirs,),
        lambda tensors: [torch.cat(list(tensors))],
        lambda tensors: tensors[0].split(rows),
    )


def first_rows(ours: str, theirs: str, rows: int) -> Move:
    """A table whose rows from `rows` on are padding, which theirs is without."""
    return Move((ours,), (theirs,), lambda tensors: [tensors[0][:rows]], list)


MoveOne = Callable[[str, str], Move]


def linear(ours: str, theirs: str, bias: bool, move: MoveOne = same) -> Iterator[Move]:
    """The weight of a linear layer by `move`, and its bias, which has one dimension, as it is."""
    yield move(f"{ours}.weight", f"{theirs}.weight")
    if bias:
        yield same(f"{ours}.bias", f"{theirs}.bias")
