"""Ranks that are done before others: they go on to give signs of life."""

from pathlib import Path

from tests.parallel.ranks import run_ranks

# Rank 1 comes to the end first. Its thread speaks when that has begun, and rank 0 comes when it has
PROGRAM = """
import os, sys, threading, time
from pathlib import Path
from longseq.parallel import mpi

rank, spoken, ending = int(os.environ["RANK"]), Path(sys.argv[1]), threading.Event()
assert mpi.world(rank, 2) is not None

def speak():
    ending.wait()
    time.sleep(0.3)
    spoken.touch()

if rank:
    threading.Thread(target=speak, daemon=True).start()
    ending.set()
else:
    tries = 0
    while not spoken.exists() and tries < 100:
        time.sleep(0.05)
        tries += 1
    print("true" if spoken.exists() else "false", flush=True)
mpi.finish()
"""


def test_threads_of_a_rank_that_waits_for_the_others_to_end_go_on(tmp_path: Path) -> None:
    """MPI_Finalize alone would hold Python's lock: no heartbeat, and a healthy rank is accused."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    assert run_ranks(2, program, str(tmp_path / "spoken")) is True
