"""A table of positions in blocks is the table: values and gradients of torch's own embedding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from longseq.model.positions import Positions


@pytest.mark.parametrize(
    ("rows", "blocks"),
    [(1, 1), (6720, 1), (6721, 2), (131072, 16), (1048576, 16)],
)
def test_blocks_cover_the_table(rows: int, blocks: int) -> None:
    with torch.device("meta"):
        table = Positions(rows, 4)
    assert len(table.blocks) == blocks
    sizes = [parameter.shape[0] for parameter in table.parameters()]
    assert sum(sizes) == rows
    assert all(size % 64 == 0 for size in sizes[:-1])


def test_values_and_gradients_are_those_of_one_table() -> None:
    torch.manual_seed(0)
    table = Positions(16000, 8).double()
    whole = torch.randn(16000, 8, dtype=torch.double, requires_grad=True)
    for start, block in zip(range(0, 16000, table.rows), table.parameters(), strict=True):
        block.data = whole.detach()[start : start + len(block)].clone()
    ids = torch.randint(16000, (300, 2))
    ids[:3, 0] = torch.tensor([0, 6719, 6720])  # a block's last row and the next one's first
    up = torch.randn(300, 2, 8, dtype=torch.double)
    found, expected = table(ids), F.embedding(ids, whole)
    assert torch.equal(found, expected)
    (found * up).sum().backward()
    (expected * up).sum().backward()
    assert whole.grad is not None
    found = torch.cat([torch.as_tensor(block.grad) for block in table.parameters()])
    torch.testing.assert_close(found, whole.grad)
