"""Starts ranks, and says what they shall run.

found = run(2, Job(network(8192, *SPLIT), steps=4))           # on 2 ranks with one thread each
found.seconds, found.peak_gib
run_all(2, {"a": job, "b": other})                            # one after the other in one start
say(2, ["benchmarks", "collectives", "--as-rank"])            # another module, and its JSON
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.parallel.ranks import ROOT, rank_command, rank_environ

TOO_LARGE = 3  # exit code of a rank that needs more than the job allows

SPLIT = ("--tensor-model-parallel-size", "2", "--sequence-parallel")
ULYSSES = ("--ds-sequence-parallel-size", "2")
RING = ("--context-parallel-size", "2")
NOTHING = ("--recompute-granularity", "none")
POINTWISE = ("--recompute-granularity", "pointwise")
OUTSIDE = ("--recompute-granularity", "outside-attention")
FULL = ("--recompute-granularity", "full")


def network(
    tokens: int, *flags: str, layers: int = 4, hidden: int = 256, heads: int = 8
) -> list[str]:
    """Flags of the network that most figures are of."""
    shape = f"--num-layers {layers} --hidden-size {hidden} --num-attention-heads {heads}"
    usual = "--use-rotary-position-embeddings --use-flash-attn-sdpa --lr 1e-3"
    return [*shape.split(), *usual.split(), "--seq-length", str(tokens), *flags]


@dataclass(frozen=True)
class Job:
    """Some training steps of one rank or several, on a CPU.

    short: tokens of a step before all others, after which `base_gib` is taken and the peak starts
        afresh; 0: none, and both are those since before the trainer.
    document: the length of documents that attention stops at; 0: none.
    whole_logits: of the whole sequence at once. torch_checkpoint: layers are recomputed by torch.
    settled: the base is from before the trainer, also with `short`, whose step makes the
        optimizer's states; tensors are given back when they are freed.
    living: what lives between backward and update is counted, in one step more.
    genome: the flags name data; else tokens are random.
    blocks: bf16 products are made in blocks where torch has no kernel worth the name for them.
    """

    flags: list[str]
    steps: int = 1
    warm: int = 0
    short: int = 512
    vocabulary: int = 16
    document: int = 0
    whole_logits: bool = False
    torch_checkpoint: bool = False
    settled: bool = False
    living: bool = False
    genome: bool = False
    blocks: bool = False
    limit_gib: float | None = None


@dataclass(frozen=True)
class Found:
    """What worker.py found; lists of GiB and seconds have a number for each rank."""

    refused: str = ""
    times: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    base_gib: list[float] = field(default_factory=list)
    peak_gib: list[float] = field(default_factory=list)
    ring_seconds: list[float] = field(default_factory=list)
    living_bytes: list[int] = field(default_factory=list)
    living_gib: list[float] = field(default_factory=list)
    parameters: int = 0

    @property
    def seconds(self) -> float:
        """Of a step."""
        return statistics.median(self.times)

    @property
    def grown_gib(self) -> float:
        """The peak above the base, of the rank that grew most."""
        pairs = zip(self.peak_gib, self.base_gib, strict=True)
        return max(peak - base for peak, base in pairs)


def run(ranks: int, job: Job, threads: int = 1) -> Found:
    """`job` on so many ranks."""
    return run_all(ranks, {"": job}, threads)[""]


def run_all(ranks: int, jobs: Mapping[str, Job], threads: int = 1) -> dict[str, Found]:
    """All jobs, one after the other in the same processes."""
    said = say(ranks, ["benchmarks.worker", _as_json(jobs)], threads)
    return {name: Found(**found) for name, found in said.items()}


def run_apart(count: int, job: Job) -> list[Found]:
    """`job` on so many single ranks that know nothing of each other, at the same time."""
    started = [begin(0, ["benchmarks.worker", _as_json({"": job})]) for _ in range(count)]
    return [Found(**result_of(process)[""]) for process in started]


def _as_json(jobs: Mapping[str, Job]) -> str:
    return json.dumps({name: asdict(job) for name, job in jobs.items()})


def say(ranks: int, words: Sequence[str], threads: int = 1) -> Any:
    """The JSON that `python -m WORDS` prints last on so many ranks; 0: without mpiexec."""
    return result_of(begin(ranks, words, threads))


def begin(ranks: int, words: Sequence[str], threads: int = 1) -> subprocess.Popen[str]:
    """Start `python -m WORDS`."""
    command = [*(rank_command(ranks) if ranks else [sys.executable]), "-m", *words]
    pipe = subprocess.PIPE
    env = rank_environ(OMP_NUM_THREADS=str(threads))
    return subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)


class TooLargeError(Exception):
    """A rank needed more memory than it was allowed."""


def result_of(process: subprocess.Popen[str]) -> Any:
    """The JSON of its last line. Raises TooLargeError; ends this program where it failed."""
    output, errors = process.communicate()
    if process.returncode == TOO_LARGE:
        raise TooLargeError
    if process.returncode:
        sys.exit(f"{process.args!r} failed:\n{errors[-3000:]}")
    return json.loads(output.strip().splitlines()[-1])


def rank() -> int:
    """This rank's number, where it was started."""
    return int(os.environ.get("RANK", "0"))
