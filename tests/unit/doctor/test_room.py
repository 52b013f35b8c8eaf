"""Limits as the shell says them, free space as df does, quotas from what the programs print."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

import pytest

from longseq.doctor import room

LFS = """        /lus/eagle  104857600  0  209715200       -   12345       0  100000       -
"""
QUOTA = """Disk quotas for user me (uid 7):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
server:/home 52428800* 41943040 62914560    6days   1000       0       0       0
/dev/sdb1 1 0 0 0 1 0 0 0
"""


@pytest.mark.parametrize(("name", "flag"), [("nofile", "-n"), ("nproc", "-u"), ("memlock", "-l")])
def test_limits_are_the_shells(name: str, flag: str) -> None:
    said = subprocess.run(["bash", "-c", f"ulimit {flag}"], capture_output=True, text=True).stdout
    found = room.limits()[name]
    unit = 1024 if name == "memlock" else 1
    assert said.strip() == ("unlimited" if found is None else str(int(found / unit)))
    assert resource.getrlimit(room.LIMITS[name])[0] in (found, -1)


def test_quotas_leave_what_the_hard_limit_does() -> None:
    assert room.quota_left(LFS, "/lus/eagle") == [100.0]  # 200 GiB less 100
    assert room.quota_left(QUOTA, "server:/home") == [10.0]
    assert room.quota_left(QUOTA, "/dev/sdb1") == []  # none is set
    assert room.quota_left("quota: error\n", "/x") == []


def test_the_programs_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program = tmp_path / "quota"
    program.write_text("#!/bin/sh\necho '/dev/sda1 3145728 0 4194304 0 1 0 0 0'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(room, "mount_of", lambda folder: ("/", "/dev/sda1", "ext4"))
    assert room.quota_gib(str(tmp_path)) == 1.0
    monkeypatch.setattr(room, "mount_of", lambda folder: ("/", "/dev/sdz9", "ext4"))
    assert room.quota_gib(str(tmp_path)) is None


def test_a_folder_that_is_not_there_ends_no_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "mount_of", lambda folder: ("/lus", "server:/lus", "lustre"))
    assert room.quota_gib(str(tmp_path / "nothing")) is None


def test_a_folders_file_system_is_that_of_df(tmp_path: Path) -> None:
    said = subprocess.run(
        ["df", "--output=target", tmp_path], capture_output=True, text=True
    ).stdout
    assert room.mount_of(str(tmp_path))[0] == said.splitlines()[1]
    assert room.free_gib(str(tmp_path / "nothing")) is None
    assert (room.free_gib(str(tmp_path)) or 0) > 0
