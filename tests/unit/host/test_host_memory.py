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


JOB = "system.slice/slurmstepd.scope/job_7"
VERSIONS = {  # how a control group's files are named, and what /proc/self/cgroup says
    2: ("", "memory.max", "memory.current", "", f"0::/{JOB}/step_0/user/task_0\n"),
    1: (
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_",
        f"12:cpu,cpuacct:/other\n4:memory:/{JOB}/step_0/user/task_0\n0::/\n",
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_job_has_what_its_groups_leave(tmp_path: Path, version: int) -> None:
    """Slurm limits the group of the job and those of its steps; pages of files count as free."""
    below, limit, used, of_all, said = VERSIONS[version]
    own = tmp_path / "cgroup"
    own.write_text(said)
    host = available_bytes(tmp_path, tmp_path / "none")
    assert available_bytes(tmp_path, own) == pytest.approx(host, rel=0.2)
    for group, most, taken in ((JOB, 3000, 1600), (f"{JOB}/step_0", 2000, 500)):
        folder = tmp_path / below / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / limit).write_text(f"{most}\n")
        (folder / used).write_text(f"{taken}\n")
    assert available_bytes(tmp_path, own) == 1400
    stat = f"anon 9\n{of_all}inactive_file 70\n{of_all}active_file 30\n"
    (tmp_path / below / JOB / "memory.stat").write_text(stat)
    assert available_bytes(tmp_path, own) == 1500
    (tmp_path / below / JOB / "step_0" / used).write_text("1999\n")
    assert available_bytes(tmp_path, own) == 1
    assert capacity_bytes(tmp_path, own) == 2000


@pytest.mark.parametrize("said", ["0::/docker/4f\n", "0::/../4f\n"])
def test_a_container_may_be_told_of_its_place_on_the_host(tmp_path: Path, said: str) -> None:
    own = tmp_path / "cgroup"
    own.write_text(said)
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("600\n")
    assert available_bytes(tmp_path, own) == 400
