"""Resident memory, against memory that is really taken."""

import mmap
import os
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from longseq.host.host_memory import (
    available_bytes,
    capacity_bytes,
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


def test_a_host_has_what_psutil_says(tmp_path: Path) -> None:
    host = psutil.virtual_memory()
    assert capacity_bytes(tmp_path) == host.total
    assert available_bytes(tmp_path) == pytest.approx(host.available, rel=0.2)


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < available_bytes(tmp_path) < whole
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert 1 << 20 < available_bytes(tmp_path) < whole
    (tmp_path / "memory.max").write_text("1000\n")
    assert available_bytes(tmp_path) == 400
    (tmp_path / "memory.max").write_text("500\n")
    assert available_bytes(tmp_path) == 0
