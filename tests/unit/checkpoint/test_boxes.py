"""Shares of tensors as rectangles, against slices of numpy arrays that hold their own places."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from longseq.checkpoint.format.boxes import Box, as_matrix, boxes
from longseq.parallel.sharding import Sharding

CUTS = [
    ((7,), None),
    ((12,), Sharding(0, (6, 2, 4), 1, 2)),
    ((6, 5), None),
    ((12, 5), Sharding(0, (12,), 2, 3)),
    ((12, 3), Sharding(0, (6, 2, 4), 0, 2)),
    ((4, 9), Sharding(1, (9,), 2, 3)),
    ((), None),
]


@pytest.mark.parametrize(("shape", "cut"), CUTS)
def test_boxes_are_the_share_in_the_order_of_memory(
    shape: tuple[int, ...], cut: Sharding | None
) -> None:
    whole = torch.arange(int(np.prod(shape, dtype=int))).reshape(shape)
    share = (cut.take(whole) if cut else whole).flatten().numpy()
    matrix = whole.reshape(as_matrix(shape)).numpy()
    chance = random.Random(1)
    for _ in range(50):
        start, stop = sorted(chance.choices(range(len(share) + 1), k=2))
        found = boxes(shape, cut, start, stop)
        numbers = [
            matrix[b.row : b.row + b.rows, b.column : b.column + b.columns].ravel() for b in found
        ]
        assert np.concatenate([*numbers, []]).tolist() == share[start:stop].tolist()
        assert len(found) <= 3 * len(cut.parts if cut else (1,))


def test_what_two_boxes_share() -> None:
    assert Box(1, 0, 4, 6).meet(Box(3, 2, 9, 2)) == Box(3, 2, 2, 2)
    assert Box(0, 0, 2, 2).meet(Box(2, 0, 2, 2)) is None
    assert Box(3, 2, 2, 2).within(Box(1, 0, 4, 6)) == (slice(2, 4), slice(2, 4))


@pytest.mark.parametrize("cut", [Sharding(0, (5,), 0, 2), Sharding(1, (4, 4), 0, 2)])
def test_a_cut_without_boxes_is_refused(cut: Sharding) -> None:
    with pytest.raises(ValueError, match=r"do not divide by 2 ranks|no boxes"):
        boxes((5, 8), cut, 0, 4)
