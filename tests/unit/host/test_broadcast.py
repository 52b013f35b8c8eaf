"""A folder onto several hosts' disks: whole and the same everywhere, or not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from longseq.host.broadcast import children
from tests.parallel.ranks import free_port


def send(source: Path, targets: list[Path], **more: str) -> list[subprocess.CompletedProcess[str]]:
    """As many ranks as targets, each a process on this host."""
    port, started = free_port(), []
    for rank, target in enumerate(targets):
        environ = {"RANK": str(rank), "WORLD_SIZE": str(len(targets)), "MASTER_ADDR": "127.0.0.1"}
        environ |= {"MASTER_PORT": port, "LONGSEQ_TOKEN": "t0ken", **more}
        started.append(
            subprocess.Popen(
                [sys.executable, "-S", "-m", "longseq.host.broadcast", str(source), str(target)],
                env=os.environ | environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    done = []
    for one in started:
        out, err = one.communicate(timeout=60)
        done.append(subprocess.CompletedProcess(one.args, one.returncode, out, err))
    return done


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").symlink_to(sys.executable)
    (folder / "data").write_bytes(os.urandom(5_000_001))
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o755)
    return folder


def test_every_rank_but_the_first_has_one_that_hands_on() -> None:
    for size in (1, 2, 5, 64, 513):
        fed = [child for rank in range(size) for child in children(rank, size)]
        assert sorted(fed) == list(range(1, size))


def test_all_have_the_same(source: Path, tmp_path: Path) -> None:
    targets = [tmp_path / f"host{rank}/env" for rank in range(5)]
    done = send(source, targets)
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 5
    assert " to 5 host(s) in " in done[0].stdout
    digests = set()
    for target in targets:
        assert (target / "data").read_bytes() == (source / "data").read_bytes()
        assert os.readlink(target / "bin/python") == sys.executable
        assert (target / "run").stat().st_mode & 0o777 == 0o755
        digests.add(json.loads((target / "broadcast.json").read_text())["sha256"])
        assert not target.with_name("env.tmp").exists()
    assert len(digests) == 1


def test_what_is_not_whole_is_not_there(source: Path, tmp_path: Path) -> None:
    """The last of three cannot write: it says so, and nobody goes on with what the others have."""
    targets = [tmp_path / f"host{rank}/env" for rank in range(3)]
    (tmp_path / "host2").write_text("no folder")
    done = send(source, targets, LONGSEQ_PATIENCE="40")
    assert done[2].returncode == 1
    assert done[2].stderr.startswith("longseq: ")
    assert all(one.returncode == 1 for one in done)
    assert not any(target.exists() for target in targets[:2])
