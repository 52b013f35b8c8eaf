"""A checkpoint: what a save beside the training stalls the step by, and a load against a read.

One process, weights and Adam's moments of SIZE GiB at ZeRO stage 0. The save is timed once its
memory is there (the first one gets it); `waited` is what the step waits for, `save` is all until
the checkpoint is there. A load verifies every hash and fills every tensor; a read takes the file
into memory of its size that is there already. Both find nothing of it in the page cache, as a new
job does. The aims: waited at most 5% of a save, a load at most 2.5 reads.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.table import Table
from benchmarks.timing import seconds
from longseq.checkpoint.format.folder import find_latest
from longseq.checkpoint.saver import Saved, Saver
from longseq.checkpoint.state.load import load
from longseq.checkpoint.state.zero_state import engine_state
from longseq.parallel.agreement import Ranks
from longseq.parallel.mesh import Mesh
from tests.faults.small_engine import SmallEngine, manifest_of


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=float, default=1.0, metavar="GIB", help="all of it (1)")
    parser.add_argument("--times", type=int, default=3, help="measurements, each its own row (3)")
    parser.add_argument("--folder", default=None, help="on which disk (the temporary folder's)")


def save(saver: Saver, engine: SmallEngine, step: int) -> Saved:
    saver.save(engine_state(engine, Mesh.single()), manifest_of(step))
    time.sleep(0.1)  # the training goes on
    waited = saver.waited
    saved = saver.finish()
    assert saved is not None
    return Saved(saved.path, saved.step, saved.bytes, saved.seconds, waited)


def forget(path: Path) -> None:
    """Leave nothing of a file in the page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path: Path, memory: memoryview) -> None:
    """All of a file into memory of its size."""
    with path.open("rb", buffering=0) as file:
        at = 0
        while size := file.readinto(memory[at : at + (1 << 24)]):
            at += size


def main(options: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        engine = SmallEngine(1.0, width=int(options.size * 2**30 / (4 * 3 * 3)))
        engine.step()
        saver = Saver(folder, None, Ranks(), keep=(1, 0))
        saver.reserve(int(options.size * 2**30) + (1 << 20))
        memory = memoryview(bytearray(save(saver, engine, 1).bytes))
        table = Table(
            ("save s", ".2f"), ("waited", ".1%"), ("load s", ".2f"), ("read s", ".2f"), ("x", ".2f")
        )
        for step in range(2, options.times + 2):
            saved = save(saver, engine, step)

            def load_it() -> None:
                path, manifest = find_latest(folder, print)
                load(engine_state(engine, Mesh.single()), path, manifest, 0, same_layout=True)

            file = saved.path / "rank-00000.safetensors"
            forget(file)
            reading = seconds(lambda: read(file, memory))  # noqa: B023
            forget(file)
            loading = seconds(load_it)
            table.row(
                saved.seconds, saved.waited / saved.seconds, loading, reading, loading / reading
            )
    finally:
        shutil.rmtree(folder)
