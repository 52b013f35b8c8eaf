"""Memory of GPUs is in segments that grow, unless the user says how torch's allocator works."""

from __future__ import annotations

import os

import pytest
import torch

from longseq.engine.distributed import ALLOCATOR, let_segments_grow


@pytest.mark.parametrize(
    ("theirs", "cuda", "expected"),
    [
        ({}, "13.0", "expandable_segments:True"),
        ({ALLOCATOR[0]: ""}, "13.0", "expandable_segments:True"),
        ({ALLOCATOR[0]: "max_split_size_mb:128"}, "13.0", "max_split_size_mb:128"),
        ({ALLOCATOR[1]: "backend:native"}, "13.0", None),
        ({}, None, None),  # a CPU's torch, or ROCm's, which cannot
    ],
)
def test_unless_the_user_says_how(
    theirs: dict[str, str], cuda: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    let_segments_grow()
    assert os.environ.get(ALLOCATOR[0]) == expected
    monkeypatch.delenv(ALLOCATOR[0], raising=False)
