"""The stream of documents, where what is asked of it must not depend on how many there are."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from data_helpers import unique_stream


def test_starts_are_those_of_the_documents_over_epochs(tmp_path: Path) -> None:
    stream = unique_stream(tmp_path, [3, 1, 5], 1, True)
    epoch = stream.epoch_tokens
    every = [n * epoch + at for n in range(4) for at in stream._epoch(n)[1][:-1].tolist()]
    for start in range(2 * epoch):
        for stop in range(start + 1, start + epoch + 4):
            expected = [at for at in every if start < at < stop]
            assert stream.starts_between(start, stop).tolist() == expected


@pytest.mark.parametrize("epoch", [0, 1])
def test_starts_are_found_without_a_copy_of_all(epoch: int, tmp_path: Path) -> None:
    documents = 20_000
    stream = unique_stream(tmp_path, [2] * documents, 1, True)
    begin = epoch * stream.epoch_tokens + stream.epoch_tokens // 2
    stream.starts_between(begin, begin + 30)  # the epoch's order is made once
    tracemalloc.start()
    try:
        found = stream.starts_between(begin, begin + 30)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) in (9, 10)
    assert np.all(np.diff(found) == 3)
    assert peak < documents  # a byte a document; a copy of the table has eight
