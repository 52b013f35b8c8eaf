"""Which CPUs are near a GPU, by a tree such as the kernel shows, and what is said of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from longseq.host.affinity import Place, complaints, read_cpus, where, write_cpus

GPU = "0000:c7:00.0"


@pytest.mark.parametrize(
    ("text", "cpus"), [("", set()), ("3\n", {3}), ("0-2,8,10-11", {0, 1, 2, 8, 10, 11})]
)
def test_lists_of_cpus(text: str, cpus: set[int]) -> None:
    assert read_cpus(text) == cpus
    assert read_cpus(write_cpus(cpus)) == cpus
    assert write_cpus(cpus) == text.strip()


def test_near_is_what_the_kernel_says(tmp_path: Path) -> None:
    folder = tmp_path / "bus/pci/devices" / GPU
    folder.mkdir(parents=True)
    mine = min(os.sched_getaffinity(0))
    for local, near in ((f"{mine}-{mine + 7}", True), ("4000-4007", False), ("\n", None)):
        (folder / "local_cpulist").write_text(local)
        assert where(GPU, tmp_path).near is near
    assert where("0000:01:00.0", tmp_path).near is None
    assert where().near is None


def test_far_and_shared_gpus_are_named() -> None:
    good = [Place("a", "0-7", "0000:01:00.0", True), Place("a", "8-15", "0000:02:00.0", True)]
    assert complaints(good) == []
    assert complaints([Place("a", "0-7"), Place("a", "0-7")]) == []
    far = complaints([*good, Place("b", "16-31", "0000:01:00.0", False)])
    assert len(far) == 1
    assert "1 rank(s) have no CPU near their GPU (2): rank 2 on b has CPUs 16-31" in far[0]
    assert complaints([good[0], good[0]]) == [
        "several ranks share a GPU: CUDA_VISIBLE_DEVICES, or the launcher's binding"
    ]
