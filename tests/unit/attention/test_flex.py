"""FlexAttention: its block tables against torch's own, which come from a whole mask; its values.

Without a GPU there is no backward and no Triton; tests/gpu/kernels.py proves those.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from longseq.attention.kernel import AttentionDropout, Documents, kernel
from longseq.attention.kernels import flex
from longseq.attention.kernels.flex import block_mask
from tests.unit.attention.plain import plain_attention, visible

CPU = torch.device("cpu")
DOCUMENTS: Documents = ((7, 130, 256, 400), (256,))


def dense(count: Tensor | None, blocks: Tensor | None) -> Tensor:
    """[b, queries, keys] bool of what a table lists."""
    assert count is not None
    assert blocks is not None
    listed = torch.arange(blocks.shape[-1]) < count[..., None]
    result = torch.zeros(blocks.shape, dtype=torch.bool)
    return result.scatter(-1, blocks.long(), listed)


@pytest.mark.parametrize("s", [512, 500, 130, 100])
@pytest.mark.parametrize("documents", [None, DOCUMENTS])
def test_tables_are_torchs(s: int, documents: Documents) -> None:
    documents = documents and tuple(tuple(x for x in row if x <= s) for row in documents)
    seen = visible(s, 2, documents)

    def look_up(row: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return seen[row, query, key]

    mine = block_mask(s, 2, documents, CPU)
    theirs = create_block_mask(look_up, 2, 1, s, s, device="cpu")
    assert mine.shape == theirs.shape
    for name in ("kv", "full_kv", "q", "full_q"):
        tables = [
            dense(getattr(mask, f"{name}_num_blocks"), getattr(mask, f"{name}_indices"))
            for mask in (mine, theirs)
        ]
        assert torch.equal(*tables), name


def test_tables_stay_small_at_a_million_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "MOST_BLOCKS", 4)
    mask = block_mask(3000, 1, ((1000, 2048),), CPU)
    assert mask.BLOCK_SIZE == (1024, 1024)
    assert mask.kv_indices.shape == (1, 1, 3, 3)


@pytest.mark.parametrize("documents", [None, DOCUMENTS])
@pytest.mark.parametrize("groups", [4, 1])
def test_values(documents: Documents, groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uncompiled, which takes no compiler, and no gradients."""
    monkeypatch.setattr(flex, "_compiled", flex_attention)
    torch.manual_seed(1)
    q, k, v = (torch.randn(400, 2, heads, 16) for heads in (4, groups, groups))
    found = kernel("triton")(q, k, v, documents, None)
    torch.testing.assert_close(found, plain_attention(q, k, v, documents).float())


def test_no_dropout() -> None:
    q = torch.zeros(16, 1, 1, 16)
    with pytest.raises(AssertionError, match="refuses"):
        kernel("triton")(q, q, q, None, AttentionDropout(0.1, 1))
