"""Who started a rank, and whether they are still there."""

import os
import socket
import subprocess

from longseq.run.safety.starters import lives, starters


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
