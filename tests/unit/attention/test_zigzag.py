"""Who holds which tokens, and that a ring's blocks are the causal pairs of each document, once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from longseq.attention import zigzag as spans
from longseq.attention.kernel import Documents
from longseq.attention.zigzag import held_spans, ring_periods, ring_spans
from longseq.parallel.mesh import Group
from longseq.parallel.ring import seen_of

DOCUMENTS: list[Documents] = [
    None,
    ((64,),),
    ((7, 19, 20, 50, 64), (64,)),
    ((1, 2, 3, 63, 64), (32, 64)),
    ((7, 50), ()),  # the last document of a row needs no boundary
]


def tokens(pieces: spans.Spans) -> list[int]:
    return [token for low, high in pieces for token in range(low, high)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "LEAST_CHUNK", 2)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("documents", DOCUMENTS)
def test_blocks_are_the_causal_pairs(size: int, documents: Documents) -> None:
    rows = len(documents) if documents else 2
    counted = torch.zeros(rows, 64, 64, dtype=torch.int64)
    periods = ring_periods(64, size, documents is not None)
    held = [tokens(ring_spans(64, rank, size, periods)) for rank in range(size)]
    for rank in range(size):
        for source in range(size):
            shape = torch.Size((rows, 1, 64 // size, 1))
            for queries, keys, causal in seen_of(shape, source, Group("r", rank, size), documents):
                for row in range(rows)[queries[0]]:
                    for i, q in enumerate(held[rank][queries[2]]):
                        for j, k in enumerate(held[source][keys[2]]):
                            counted[row, q, k] += not causal or j <= i
    expected = torch.ones(64, 64, dtype=torch.int64).tril().repeat(rows, 1, 1)
    for row, ends in enumerate(documents or ()):
        number = torch.bucketize(torch.arange(64), torch.tensor(ends), right=True)
        expected[row] *= number[:, None] == number[None, :]
    assert torch.equal(counted, expected)


class Ends:
    """Ends of documents, and how often one was looked at."""

    def __init__(self, count: int, length: int) -> None:
        self.count, self.length, self.looks = count, length, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, at: int) -> int:
        self.looks += 1
        if at >= self.count:
            raise IndexError
        return (at + 1) * self.length // self.count


def test_documents_that_only_others_hold_are_not_looked_at() -> None:
    """Two chunks far apart, and each chunk with itself, of 10,000 documents."""
    ends = Ends(10_000, 1 << 20)
    documents: Any = (ends,)
    far, here = [(0, 16384)], [(1 << 19, (1 << 19) + 16384)]
    assert list(spans.common(here, far, documents, 1)) == []
    assert ends.looks < 100
    assert 150 < len(list(spans.common(here, here, documents, 1))) < 160
    assert ends.looks < 1000


def test_every_layer_of_a_pass_is_told_the_same() -> None:
    documents = ((7, 19, 20, 50, 64),)
    first, again = (
        seen_of(torch.Size((1, 1, 16, heads)), 2, Group("r", 3, 4), documents) for heads in (1, 5)
    )
    assert first is again


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize(("ulysses", "ring"), [(1, 1), (2, 1), (1, 4), (2, 2), (4, 2)])
def test_every_token_has_one_holder(ulysses: int, ring: int, documents: bool) -> None:
    held = [
        tokens(held_spans(256, (u, ulysses), (r, ring), documents))
        for u in range(ulysses)
        for r in range(ring)
    ]
    assert {len(part) for part in held} == {256 // (ulysses * ring)}
    assert sorted(token for part in held for token in part) == list(range(256))


def test_the_pattern_is_repeated_for_documents_only() -> None:
    assert ring_periods(1 << 16, 4, documents=False) == 1
    assert ring_periods(1 << 16, 4, documents=True) == 16
    assert ring_periods(1 << 16, 1, documents=True) == 1
    assert ring_periods(32, 2, documents=True) == 4  # chunks of two tokens
    assert ring_periods(24, 2, documents=True) == 2  # 24 does not divide by 16
