"""One training on four ranks, then two, then two hosts of two ranks, then four again.

    python -m tests.faults.two_hosts

Needs root, as the hosts are simulated (tests/launch/cluster.py). Every leg has another layout and
goes on from the checkpoint of the one before; the losses must be those of four ranks that do all of
it, to 1e-6. Without the hosts the suite does this itself (test_checkpoint_layouts.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.launch.cluster import Cluster, why_not
from tests.parallel.ranks import ROOT, free_port

WORKER = ROOT / "tests/faults/layouts_worker.py"
GROUPED = " --num-key-value-heads 2 --swiglu --untie-embeddings-and-output-weights"
WIDE = "--tensor-model-parallel-size 2 --zero-stage 3" + GROUPED
HOSTS = ["longseq-a", "longseq-b"]
TOLERANCE = 1e-6


def run(places: list[list[str]], address: str, job: dict[str, Any]) -> dict[str, float]:
    """The losses of a job on one rank for each of `places`, the commands that lead to its host."""
    port, ranks = free_port(), []
    for number, place in enumerate(places):
        environ = {
            "RANK": str(number),
            "WORLD_SIZE": str(len(places)),
            "LOCAL_RANK": str(places[:number].count(place)),
            "MASTER_ADDR": address,
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": "1",
            "DS_ACCELERATOR": "cpu",
            "PYTHONPATH": str(ROOT),
        }
        command = [*place, sys.executable, str(WORKER), json.dumps([job])]
        output = subprocess.PIPE if number == 0 else subprocess.DEVNULL
        ranks.append(subprocess.Popen(command, env=os.environ | environ, stdout=output, text=True))
    text = ranks[0].communicate(timeout=600)[0]
    if sum(rank.wait(60) for rank in ranks):
        sys.exit(f"failed: {job}: {text[-2000:]}")
    found: dict[str, float] = json.loads(text.splitlines()[-1])[job["name"]]
    return found


def main() -> int:
    if reason := why_not():
        sys.exit(f"two_hosts: {reason}")
    with tempfile.TemporaryDirectory(prefix="longseq-hosts-") as name:
        folder = Path(name)
        a, b, c = (str(folder / letter) for letter in "abc")
        here: list[str] = []
        with Cluster(folder / "cluster", HOSTS) as cluster:
            there = [cluster.enter(host) for host in HOSTS for _ in range(2)]
            legs = (
                ("four ranks", [here] * 4, WIDE, {"steps": 8, "save": a, "at": 2}),
                ("two ranks", [here] * 2, "--zero-stage 1" + GROUPED,
                 {"steps": 4, "load": a, "save": b, "at": 4}),
                ("two hosts", there,
                 "--ds-sequence-parallel-size 2 --context-parallel-size 2 --zero-stage 2" + GROUPED,
                 {"steps": 6, "load": b, "save": c, "at": 6}),
                ("four ranks again", [here] * 4, WIDE, {"steps": 8, "load": c}),
            )  # fmt: skip
            found: dict[str, float] = {}
            whole: dict[str, float] = {}
            for title, places, flags, job in legs:
                address = "10.77.0.1" if places is there else "127.0.0.1"
                done = run(places, address, {"name": title, "flags": flags, **job})
                whole = whole or done
                found |= done
                worst = max(abs(done[i] - whole[i]) for i in done)
                print(f"{title}: iterations {min(done)} to {max(done)}: {worst:.2g}", flush=True)
    return 0 if all(abs(found[i] - whole[i]) <= TOLERANCE for i in whole) else 1


if __name__ == "__main__":
    sys.exit(main())
