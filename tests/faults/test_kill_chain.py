"""kill_chain.py itself is killed: of Slurm, the hosts, the disk and the jobs nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import kill_chain
from tests.launch.cluster import why_not
from tests.launch.planned import wait_until
from tests.launch.shell import processes_with
from tests.launch.slurm import PROGRAMS
from tests.parallel.ranks import ROOT

# Who is started behind a shell's & is deaf to INT, and behind nohup to HUP
HEARS = """
import signal
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
"""

# Hosts, Slurm and disk as they are; the chain is one job of a process that waits
STUB = """
import sys
from tests.faults import kill_chain

def submit(tree, slurm, *_, **__):
    slurm.ask("sbatch", "--nodes=2", "--wrap", "srun sh -c 'touch $MARK/began; sleep 1000'")
    print("submitted", flush=True)
    while True:
        kill_chain.time.sleep(1)

kill_chain.uninterrupted = lambda *_: {}
kill_chain.submit = submit
sys.exit(kill_chain.main())
"""

ENDS = """
import sys, time
from pathlib import Path
from tests.launch.cluster import end_on_signals, small_disk
end_on_signals()
with small_disk(Path(sys.argv[1]), "64k"):
    try:
        print("up", flush=True)
        time.sleep(1000)
    finally:
        print("ends", flush=True)
        time.sleep(1)
        print("has ended", flush=True)
"""


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose name leaves room for those of Slurm's sockets."""
    if reason := why_not("setpriv", *PROGRAMS):
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="longseq-") as name:
        yield Path(name)


def test_a_long_name_is_refused(tmp_path: Path) -> None:
    """Slurm would start no job, and say so in the log of a daemon."""
    with pytest.raises(SystemExit) as ended:
        kill_chain.place(tmp_path / ("x" * 50))
    assert "characters: give a FOLDER of " in str(ended.value)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left(number: signal.Signals, short: Path) -> None:
    """The signal goes to the whole group, as that of a terminal does."""
    folder = short / "chain"
    with started(STUB, folder, "--seed", "1") as chain:
        try:
            wait_until((folder / "began").exists, "no job")
            assert is_mounted(folder / "disk")
            os.killpg(chain.pid, number)
            assert chain.wait(100) == (-9 if number == signal.SIGKILL else 128 + number)
        finally:
            chain.kill()
    wait_until(lambda: not processes_with(str(folder)), "something is left")
    wait_until(lambda: not is_mounted(folder / "disk"), "the disk is left")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_no_second_signal_cuts_the_end_short(number: signal.Signals, short: Path) -> None:
    with started(ENDS, short) as waits:
        assert waits.stdout is not None
        assert waits.stdout.readline() == "up\n"
        assert is_mounted(short)
        waits.send_signal(number)
        assert waits.stdout.readline() == "ends\n"
        waits.send_signal(number)
        assert waits.stdout.readline() == "has ended\n"
        assert waits.wait() == 128 + number
    assert not is_mounted(short)


def started(script: str, folder: Path, *words: str) -> subprocess.Popen[str]:
    """A script of Python's in a process group of its own, with `folder` in its environment."""
    environ = {"PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/bin", "HOME": "/root"}
    return subprocess.Popen(
        [sys.executable, "-c", HEARS + script, str(folder), *words],
        env=environ | {"PYTHONPATH": str(ROOT), "MARK": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def is_mounted(folder: Path) -> bool:
    return f" {folder} " in Path("/proc/mounts").read_text()
