"""The word to the launcher: sent where there is one that listens, harmless elsewhere."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from longseq.run.safety.abort import report, tell_launcher


def test_hydra_is_told() -> None:
    read, write = os.pipe()
    tell_launcher(2, {"PMI_FD": str(write)})
    assert os.read(read, 100) == b"cmd=abort exitcode=2\n"
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    ("environ", "tried"),
    [({}, []), ({"PMI_FD": ""}, []), ({"PMI_FD": "x"}, []), ({"PMI_FD": "987654"}, [987654])],
)
def test_others_are_not(
    environ: dict[str, str], tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written without a connection; one that is closed is no failure."""
    written: list[int] = []

    def write(descriptor: int, _data: bytes) -> int:
        written.append(descriptor)
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(os, "write", write)
    tell_launcher(2, environ)
    assert written == tried


class Full(io.StringIO):
    """A file on a full disk."""

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_full_disk_keeps_nobody_from_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank of use.sh prints to a file on it."""
    read, write = os.pipe()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", Full())
        report(2, "the cause", {})
        tell_launcher(2, {"PMI_FD": str(write)})
    assert os.read(read, 100) == b"cmd=abort exitcode=2\n"
    os.close(read)
    os.close(write)


def test_a_letter_keeps_nobody_from_the_last_word(tmp_path: Path) -> None:
    """In a locale without that letter, as of ranks that Open MPI starts on another host; and a
    name that is no text at all.
    """
    code = r"from longseq.run.safety.abort import report; report(69, 'deep \u2026 \udcff\n')"
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    env = os.environ | plain | {"LONGSEQ_LOG": str(tmp_path), "RANK": "3"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    said = "deep … \\udcff\n".encode()
    assert (tmp_path / "rank3.out").read_bytes() == said
    assert (tmp_path / "failed-3.txt").read_bytes().endswith(b"\n69\n0\n" + said)
