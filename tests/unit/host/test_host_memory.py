"""Resident memory, against memory that is really taken."""

import mmap

from longseq.host.host_memory import (
    peak_memory_gib,
    peak_resident_gib,
    reset_peak,
    resident_gib,
)

SIZE = 256 << 20


def test_peak_follows_what_is_taken_and_given_back() -> None:
    before = resident_gib()
    with mmap.mmap(-1, SIZE) as block:
        for page in range(0, SIZE, 4096):
            block[page] = 1
        assert 0.24 < resident_gib() - before < 0.30
    assert resident_gib() - before < 0.05
    assert peak_resident_gib() - before > 0.24
    assert peak_memory_gib("cpu") == peak_resident_gib()
    if reset_peak():
        assert peak_resident_gib() - before < 0.05
