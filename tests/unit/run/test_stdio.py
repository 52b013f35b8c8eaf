"""A full disk takes no words, and ends no rank for that; when there is room it takes more."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from longseq.host.split_output import LOST, split
from longseq.run.safety.abort import report, tell_launcher
from longseq.run.stdio import keep_output, lossy

FULL = Path("/dev/full")


def test_a_full_disk_ends_no_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a library prints, and our own last words, whose note finds no room either."""
    with FULL.open("w") as out, FULL.open("w") as err:
        monkeypatch.setattr(sys, "stdout", lossy(out))
        monkeypatch.setattr(sys, "stderr", lossy(err))
        print("a library's", flush=True)
        (tmp_path / "failed-1.txt").symlink_to(FULL)
        report(1, "the cause", {"LONGSEQ_LOG": str(tmp_path / "gone"), "RANK": "1"})
        read, write = os.pipe()
        tell_launcher(1, {"PMI_FD": str(write)})
        assert os.read(read, 100) == b"cmd=abort exitcode=1\n"
    os.close(read)
    os.close(write)


def test_a_rank_keeps_its_output_so() -> None:
    code = f"from {keep_output.__module__} import keep_output; keep_output({{'RANK': '1'}})"
    code += "; import sys; print('x', flush=True); print('y', file=sys.stderr)"
    with FULL.open("w") as full:
        ended = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=full)
    assert ended.returncode == 0
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "x\n"


def test_the_file_of_rank_0_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it could not even be made."""
    path = tmp_path / "log" / "rank0.out"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def said() -> Iterator[bytes]:
        yield b"no folder\n"
        path.parent.mkdir()
        yield b"one\n"
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(LOST) + 4, hard))  # stands for the disk
        yield b"not here\n"
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        yield b"two\n"
        yield b""

    words = said()
    screen = tmp_path / "screen"
    with screen.open("wb") as file, monkeypatch.context() as patched:
        patched.setattr(os, "read", lambda _number, _size: next(words))
        split(str(path), screen=file.fileno())
    lost = LOST.decode()
    assert path.read_text() == f"{lost}one\n{lost}two\n"
    assert screen.read_text() == "no folder\none\nnot here\ntwo\n"


def test_a_screen_that_is_gone_takes_nothing_from_the_file(tmp_path: Path) -> None:
    (words, write), (shown, screen) = os.pipe(), os.pipe()
    os.write(write, b"words")
    os.close(write)
    os.close(shown)
    split(str(tmp_path / "rank0.out"), words, screen)
    os.close(words)
    os.close(screen)
    assert (tmp_path / "rank0.out").read_bytes() == b"words"
