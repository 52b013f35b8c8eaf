"""Kill one run at random moments, each time going on from its newest checkpoint on another layout.

    python tests/faults/kill_resumed.py [100] [SEED]

The run saves at each iteration. Its losses must be those of a run that nobody killed, to 1e-6, and
no checkpoint may be damaged. Prints a line a kill; ends with 1 at the first that goes wrong. A
quarter of a minute a kill, so this is no part of the suite.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from tests.faults.kill_many import kill  # noqa: E402
from tests.parallel.ranks import MPIEXEC, rank_environ  # noqa: E402

FLAGS = (
    "--num-layers 2 --hidden-size 128 --num-attention-heads 4 --seq-length 1024 --eval-iters 0"
    " --use-rotary-position-embeddings --use-flash-attn-sdpa --lr 1e-5 --lr-decay-style constant"
    " --device cpu --global-batch-size 8 --train-iters 100000 --save-interval 1 --keep-last 3"
).split()
LAYOUTS = (
    "--zero-stage 0",
    "--zero-stage 1 --micro-batch-size 2",
    "--zero-stage 2 --tensor-model-parallel-size 2 --sequence-parallel",
    "--zero-stage 3",
    "--zero-stage 3 --ds-sequence-parallel-size 2",
    "--context-parallel-size 2 --zero-stage 2",
    "--tensor-model-parallel-size 2",
)
TOLERANCE = 1e-6
STARTED = 120  # seconds in which a run has begun its first iteration, on a busy machine


def start(folder: Path, ranks: int, flags: list[str]) -> subprocess.Popen[str]:
    """The real trainer, in a process group of its own; its output goes to a file in `folder`."""
    env = rank_environ(LONGSEQ_CACHE=str(folder.parent / "cache"))
    data = ["--data-path", str(ROOT / "data" / "NC_001416.1.fa"), "--run-dir", str(folder)]
    launch = [MPIEXEC, "-n", str(ranks), "sh", str(ROOT / "ALCF/rank.sh"), sys.executable]
    folder.mkdir()
    return subprocess.Popen(
        [*launch, str(ROOT / "pretrain_gpt.py"), *FLAGS, *data, *flags],
        env=env,
        stdout=(folder / "output.txt").open("w"),
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def losses(folder: Path) -> dict[int, float]:
    """By iteration, of the lines that were written whole."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    return {record["iteration"]: record["lm_loss"] for record in records}


def until(folder: Path, process: subprocess.Popen[str], last: int, limit: float) -> None:
    """Wait until iteration `last` is in the metrics."""
    began = time.monotonic()
    while max(losses(folder), default=0) < last:
        if process.poll() is not None or time.monotonic() - began > limit:
            text = (folder / "output.txt").read_text()[-1500:]
            sys.exit(f"{folder}: no iteration {last} ({process.poll()}): {text}")
        time.sleep(0.1)


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    chance = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else None)
    with tempfile.TemporaryDirectory(prefix="longseq-kills-") as name:
        parent = Path(name)
        kept, seen = parent / "kept", dict[int, float]()
        for number in range(1, count + 1):
            layout = chance.choice(LAYOUTS)
            folder = parent / f"attempt-{number}"
            again = ["--load", str(kept)] if (kept / "latest").exists() else []
            process = start(folder, 2, ["--save", str(kept), *layout.split(), *again])
            done = max(seen, default=0)
            until(folder, process, 1, STARTED)
            time.sleep(chance.uniform(0.5, 4.0))
            kill(process)
            found, text = losses(folder), (folder / "output.txt").read_text()
            if "is damaged" in text or done - min(found) > 2:
                sys.exit(f"kill {number}: after {done} it went on at {min(found)}: {text[-1500:]}")
            seen |= found
            print(f"kill {number}: {layout}: {min(found)} to {max(found)}", flush=True)
        print(f"the same {max(seen)} iterations, uninterrupted", flush=True)
        whole = start(parent / "whole", 2, ["--save", str(parent / "others"), "--zero-stage", "1"])
        until(parent / "whole", whole, max(seen), 60 * len(seen))
        kill(whole)
        expected = losses(parent / "whole")
        worst = max(abs(seen[i] - expected[i]) for i in seen)
        print(f"{count} kills, {max(seen)} iterations: losses differ by at most {worst:.2g}")
        return 0 if worst <= TOLERANCE and sorted(seen) == list(range(1, max(seen) + 1)) else 1


if __name__ == "__main__":
    sys.exit(main())
