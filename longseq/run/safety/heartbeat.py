"""Signs of life: each rank keeps a file that says where it is, and the others can read it.

    heart = Heart(folder, rank=3)       # RUN/log/beat-3.json
    heart.beat(7, "step")               # every second or so, from a thread
    beat = read_beat(folder, 3)         # Beat(step=7, waits_in="all_reduce", stack=[…], …), or None

The file has one block and is written over in place, so that a full disk cannot stop a heart. Each
time it is opened and closed, as NFS shows other hosts what was written when it is closed, and else
half a minute later. It holds the main thread's stack: of a process that was stopped, or a host that
is gone, nobody can ask for it any more.

On a GPU an exchange returns at once: the main thread waits later, where it reads a number back or
starts one kernel too many. That is `waits_in` DEVICE, and may be a wait for its own kernels.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import Any

from longseq.host.atomic_files import ticks

BLOCK = 8192  # bytes of a file
DEEPEST, OUTER = 30, 8  # frames that are kept: of a deeper stack, the outermost and the innermost
ROOT = str(Path(__file__).parents[3]) + os.sep
# Whoever is in one of these waits for other ranks
EXCHANGES = (
    "longseq/parallel/collectives.py",
    "longseq/parallel/mpi.py",
    "longseq/parallel/agreement.py",
    "torch/distributed/distributed_c10d.py",
    "torch/distributed/rendezvous.py",
    "deepspeed/comm/comm.py",
)
# Innermost of our own on the stack, these wait for a GPU if they wait at all
COMPUTE = tuple(
    f"longseq/{place}"
    for place in (
        "attention/",
        "engine/",
        "memory/",
        "model/",
        "parallel/",
        "run/safety/stopping.py",
        "run/safety/stragglers.py",
        "training/parts.py",
        "training/positions.py",
        "training/trainer.py",
    )
)
# What these call may wait for it likewise, but for what builds kernels, in processes of its own
LIBRARIES = ("/torch/", "/deepspeed/", "/flash_attn", "/triton/")
BUILDERS = ("/torch/utils/", "/torch/_dynamo/", "/torch/_inductor/", "/deepspeed/ops/op_builder/")
DEVICE = "the device"
BESIDE = ("step", "validation")  # phases beside which a save goes on: it is no sign of their life
CLOSING = "closing"  # the phase after the training: ranks wait for who writes a page, say
NAMES = ("all_", "barrier", "broadcast", "gather", "reduce", "scatter", "shift", "new_group")


@dataclass(frozen=True)
class Beat:
    """Where a rank was when it last said so; `still`: seconds for which that has not changed."""

    rank: int = 0
    host: str = ""
    pid: int = 0
    count: int = 0
    step: int = 0
    phase: str = "start"
    waits_in: str = ""
    still: float = 0.0
    stack: list[str] = field(default_factory=list)


def beat_file(folder: Path, rank: int) -> Path:
    return folder / f"beat-{rank}.json"


def where(frame: FrameType | None) -> tuple[str, list[str]]:
    """(the exchange between ranks that a thread waits in, DEVICE or "", its stack from outside).

    The stack ends at the exchange: what happens in there changes while it waits.
    """
    calls: list[FrameType] = []
    while frame is not None:
        calls.append(frame)
        frame = frame.f_back
    stack: list[str] = []
    for number, call in enumerate(reversed(calls)):
        name = call.f_code.co_filename
        stack.append(f"{name.removeprefix(ROOT)}:{call.f_lineno} in {call.f_code.co_name}")
        if name.endswith(EXCHANGES):
            inner = [c.f_code.co_name for c in reversed(calls[: len(calls) - number])]
            own = getattr(call.f_code, "co_qualname", inner[0])  # Gather.pieces, from Python 3.11
            return next((n for n in inner if n.startswith(NAMES)), own), _shortened(stack)
    return DEVICE if _on_gpu() and _computes(stack) else "", _shortened(stack)


def _computes(stack: list[str]) -> bool:
    """Whether a thread is at a line that may wait for a GPU, and not for a file or a process."""
    inner = stack[-1] if stack else ""
    theirs = any(place in inner for place in LIBRARIES)
    builds = any(place in inner for place in BUILDERS)
    here = inner.startswith("longseq/") or (theirs and not builds)
    return here and own_line(stack).startswith(COMPUTE)


def own_line(stack: list[str]) -> str:
    """The innermost line that is ours."""
    return next((line for line in reversed(stack) if line.startswith("longseq/")), "")


def _on_gpu() -> bool:
    """Whether this process has begun to use one; asking torch's own would begin it."""
    torch: Any = sys.modules.get("torch")
    kinds: list[Any] = [getattr(torch, name, None) for name in ("cuda", "xpu")]
    return any(kind.is_initialized() for kind in kinds if hasattr(kind, "is_initialized"))


def _backward(frames: dict[int, FrameType]) -> list[str]:
    """Where autograd's own threads are: the main thread stands still meanwhile."""
    python = {
        thread.ident
        for thread in threading.enumerate()
        if not isinstance(thread, threading._DummyThread)
    }
    inner = [frame for ident, frame in frames.items() if ident not in python]
    return [f"{frame.f_code.co_filename}:{frame.f_lineno}" for frame in inner]


def _shortened(stack: list[str]) -> list[str]:
    """An import in the middle of a step is deep; our own calls, further out, say where it was."""
    if len(stack) <= DEEPEST:
        return stack
    return [*stack[:OUTER], "…", *stack[OUTER - DEEPEST + 1 :]]


class Heart:
    """This rank's file, and since when the rank has not moved.

    It moves when its main thread is somewhere else, and where that may wait for its own threads,
    when a piece of a file is done (atomic_files.tick).
    error: what the file system said to the last beat, if that reached nobody; the next tries anew.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self.rank, self._host, self._count = rank, socket.gethostname(), 0
        self._main = threading.main_thread().ident
        self._place: tuple[int, int, str, list[str], list[str]] = (0, 0, "", [], [])
        self._since = time.monotonic()
        self._path = beat_file(folder, rank)
        self.error: OSError | None = None

    def beat(self, step: int, phase: str) -> Beat:
        """Write where the main thread is now."""
        frames = sys._current_frames()
        waits_in, stack = where(frames.get(self._main or 0))
        beside = _backward(frames) if waits_in == DEVICE else []
        del frames
        place = (step, 0 if phase in BESIDE else ticks(), phase, stack, beside)
        now = time.monotonic()
        if place != self._place:
            self._place, self._since = place, now
        self._count += 1
        still = round(now - self._since, 1)
        beat = Beat(
            self.rank, self._host, os.getpid(), self._count, step, phase, waits_in, still, stack
        )
        self.error = None
        try:
            self._write(beat)
        except OSError as error:
            self.error = error
        return beat

    def _write(self, beat: Beat) -> None:
        content = asdict(beat)
        text = json.dumps(content).encode()
        while len(text) >= BLOCK:
            content["stack"] = content["stack"][1:]
            text = json.dumps(content).encode()
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.pwrite(file, text.ljust(BLOCK - 1) + b"\n", 0)
            finally:
                os.close(file)
        except OSError:
            os.utime(self._path)  # a reader takes that for a beat as well


def read_beat(folder: Path, rank: int) -> tuple[Beat, float] | None:
    """A rank's last beat and its file's time; None where there is none, or it is being written."""
    path = beat_file(folder, rank)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = {f.name for f in fields(Beat)}
        return Beat(**{k: v for k, v in found.items() if k in known}), path.stat().st_mtime
    except (OSError, ValueError, TypeError, AttributeError):
        return None
