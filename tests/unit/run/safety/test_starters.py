"""Who started a rank, and whether they are still there."""

import os
import signal
import socket
import subprocess
import sys

from longseq.run.safety.starters import lives, starters, told

DEAF = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
print("here", flush=True)
signal.pause()
"""


def test_each_of_those_on_this_host_counts() -> None:
    """The script and the batch script that started it, which alone knows what becomes of a job."""
    host = socket.gethostname()
    with subprocess.Popen(["sleep", "60"]) as batch:
        found = starters({"LONGSEQ_SCRIPT": f"{host}:{os.getpid()}+{batch.pid}"})
        assert [lives(one) for one in found] == [True, True]
        batch.kill()
        batch.wait()
        assert [lives(one) for one in found] == [True, False]
    assert starters({"LONGSEQ_SCRIPT": f"not-{host}:{os.getpid()}"}) == []
    parent = starters({"LONGSEQ_SCRIPT": "", "LONGSEQ_PARENT": str(os.getpid())})
    assert [lives(one) for one in parent] == [True]


def test_what_a_deaf_launcher_was_told_is_seen() -> None:
    """Open MPI's would kill its ranks, so the signal to stop waits, and its ranks look."""
    with subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout
        launcher.stdout.readline()
        found = starters({"LONGSEQ_PARENT": str(launcher.pid)})
        assert told([(2**22 + 1, "never there"), *found]) is None
        launcher.send_signal(signal.SIGTERM)
        assert told(found) == signal.SIGTERM
        launcher.kill()
    assert told(found) is None
