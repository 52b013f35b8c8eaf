"""Where the numbers of a run go: metrics.jsonl, TensorBoard and Weights & Biases.

    tracker = Tracker(warn)
    tracker.add("metrics.jsonl", lambda: MetricsFile(folder / "metrics.jsonl", resume_after=10))
    tracker.add("TensorBoard", lambda: TensorBoard(folder / "tensorboard", resume_after=10))
    tracker.log({"iteration": 11, "lm_loss": 1.3, …})
    tracker.close()

or `open_tracker(folder, …)`, which does all of that. Only rank 0 has sinks; a tracker without any
does nothing. A sink that fails is named once and dropped, and the training goes on. On a full disk
the files' records wait in memory, each new one tries again, and what found no room is said.
"""

import contextlib
import io
import json
import math
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from longseq.host.atomic_files import gone, replace_file
from longseq.host.growing_files import Pieces, Waiting, room_for
from longseq.reports.runs import parse_record
from longseq.run.wandb_sink import Told, WandbSink, wandb_mode

Record = Mapping[str, Any]

_METRICS = """
    iteration consumed_tokens lm_loss grad_norm learning_rate iteration_time samples_per_sec
    tokens_per_sec tflops model_tflops peak_memory_gib validation_loss
"""
METRICS = tuple(_METRICS.split())


class Sink(Protocol):
    """Something that takes one record an iteration."""

    def write(self, record: Record) -> None: ...

    def add_to_last(self, more: Record) -> None: ...

    def go_back(self, iteration: int) -> None: ...

    def close(self, exit_code: int, /) -> None: ...


class Tracker:
    """Hands every record to every sink that still works."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._sinks: dict[str, Sink] = {}
        self._waiting: set[str] = set()  # sinks that said so
        self._iteration = 0  # of the last record

    def add(self, name: str, make: Callable[[], Sink]) -> None:
        """Open a sink; one that cannot be opened is named and left out."""
        try:
            self._sinks[name] = make()
        except Exception as error:  # whatever a sink raises, training matters more
            self._drop(name, f"{type(error).__name__}: {error}")

    def log(self, record: Record) -> None:
        """Record one iteration; `record` has at least `iteration`, best the keys of METRICS."""
        self._iteration = record["iteration"]
        self._each(lambda sink: sink.write(record))

    def add_to_last(self, more: Record) -> None:
        """Add what became known after the last record was written to that record, if any."""
        if self._iteration:
            late = {"iteration": self._iteration, **more}
            self._each(lambda sink: sink.add_to_last(late))

    def go_back(self, iteration: int) -> None:
        """The training goes on after `iteration`: what is there of later ones is not part of it."""
        self._each(lambda sink: sink.go_back(iteration))

    def _each(self, act: Callable[[Sink], None]) -> None:
        for name, sink in list(self._sinks.items()):
            try:
                act(sink)
                self._waiting.discard(name)
            except Waiting as wait:
                if name not in self._waiting:
                    self._warn(str(wait))
                self._waiting.add(name)
            except Told as told:
                self._warn(str(told))
            except Exception as error:
                self._drop(name, _why(error))

    def close(self, exit_code: int = 0) -> None:
        """Flush and end every sink; safe to call twice. `exit_code` marks the run as failed or
        not.
        """
        while self._sinks:
            name, sink = self._sinks.popitem()
            try:
                sink.close(exit_code)
            except Waiting as wait:
                self._warn(f"{wait}; the run ends, so they are lost")
            except Told as told:
                self._warn(str(told))
            except Exception as error:
                self._drop(name, _why(error))

    def _drop(self, name: str, why: str) -> None:
        self._sinks.pop(name, None)
        self._warn(f"{name} takes no more records: {why}")


def _why(error: Exception) -> str:
    """Of a sink that was open; what is not found any more was there."""
    if isinstance(error, FileNotFoundError) and error.filename:
        return gone(error.filename)
    return f"{type(error).__name__}: {error}"


class MetricsFile:
    """One JSON object a line and iteration, so that a killed run keeps what it measured."""

    def __init__(self, path: Path, resume_after: int = 0) -> None:
        """Append to `path` after iteration `resume_after`; later lines, of an attempt whose end
        was lost, move to metrics-abandoned.jsonl beside it, so that no iteration stands twice.
        """
        self._path, self._lines = path, Pieces(path)
        self._back: int | None = resume_after  # what the file has of later ones must go first,
        self._late: Record = {}  # then this is added to its last line
        with contextlib.suppress(Waiting):  # the first record will say so
            self._put()

    def write(self, record: Record) -> None:
        self._lines.waiting.append(json_line(record))
        self._put()

    def _put(self) -> None:
        with room_for(self._path):
            if self._back is not None:
                self._lines.close()
                set_aside_after(self._path, self._back)
                self._back = None
            if self._late:
                self._lines.close()
                *before, last = self._path.read_bytes().splitlines(keepends=True)
                text = b"".join([*before, _with(last, self._late)]).decode()
                replace_file(self._path, text)
                self._late = {}
        self._lines.put()

    def add_to_last(self, record: Record) -> None:
        """Write the last line anew, with more in it."""
        waiting = self._lines.waiting
        if waiting:
            waiting[-1] = _with(waiting[-1], record)
        else:
            self._late = record
        self._put()

    def go_back(self, iteration: int) -> None:
        """Move the lines of later iterations to metrics-abandoned.jsonl; those that wait for room
        are forgotten.
        """
        lines = self._lines.waiting
        kept = [line for line in lines if json.loads(line)["iteration"] <= iteration]
        self._lines.waiting = deque(kept)
        if self._late and self._late["iteration"] > iteration:
            self._late = {}
        self._back = iteration
        self._put()

    def close(self, _exit_code: int, /) -> None:
        self._put()
        self._lines.close()


def json_line(record: Record) -> bytes:
    """One line of strict JSON: nan and infinity, which JSON has no word for, become null."""
    clean = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in record.items()
    }
    return json.dumps(clean, allow_nan=False).encode() + b"\n"


def _with(line: bytes, more: Record) -> bytes:
    return json_line(json.loads(line) | dict(more))


def set_aside_after(path: Path, iteration: int) -> None:
    """Move the lines of `path` that are beyond `iteration` or broken to `NAME-abandoned.jsonl`."""
    if not path.exists():
        return
    keep: list[str] = []
    aside: list[str] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        record = parse_record(line)
        (keep if record and record["iteration"] <= iteration else aside).append(line + "\n")
    if not aside:
        return
    abandoned, lines = path.with_name(path.stem + "-abandoned.jsonl"), "".join(aside).encode()
    if not (abandoned.exists() and abandoned.read_bytes().endswith(lines)):  # from the last try
        pieces = Pieces(abandoned)
        pieces.add(lines)
        pieces.close()
    replace_file(path, "".join(keep))


class TensorBoard:
    """TensorBoard's format without its writer, which loses what it holds on a full disk.

    torch.utils.tensorboard takes ten times as long to import.
    """

    def __init__(self, folder: Path, resume_after: int = 0) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary, self._framed = event_pb2, summary_pb2, RecordWriter
        folder.mkdir(parents=True, exist_ok=True)
        seconds, rest = divmod(time.time_ns(), 10**9)
        name = f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}.{os.getpid()}.{rest}"
        self._pieces = Pieces(folder / name)
        with contextlib.suppress(Waiting):  # the first record will say so
            self._add(wall_time=float(seconds), file_version="brain.Event:2")
            if resume_after:
                self.go_back(resume_after)

    def add_to_last(self, record: Record) -> None:
        self.write(record)

    def go_back(self, iteration: int) -> None:
        """Tell TensorBoard to forget the points of later iterations."""
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        self._add(step=iteration + 1, wall_time=time.time(), session_log=start)

    def _add(self, **what: Any) -> None:
        framed = io.BytesIO()
        self._framed(framed).write(self._event.Event(**what).SerializeToString())
        self._pieces.add(framed.getvalue())

    def write(self, record: Record) -> None:
        values = [
            self._summary.Summary.Value(tag=tag, simple_value=float(value))
            for tag, value in record.items()
            if tag != "iteration" and isinstance(value, int | float)
        ]
        summary = self._summary.Summary(value=values)
        self._add(step=record["iteration"], wall_time=time.time(), summary=summary)

    def close(self, _exit_code: int, /) -> None:
        self._pieces.put()
        self._pieces.close()


def open_tracker(
    folder: Path,
    warn: Callable[[str], None],
    *,
    rank: int = 0,
    resume_after: int = 0,
    tensorboard: Path | None = None,
    wandb_project: str | None = None,
    settings: Record | None = None,
) -> Tracker:
    """The tracker of a run: metrics.jsonl always, TensorBoard in `tensorboard`, W&B in
    `wandb_project`.

    `resume_after` is the iteration of the loaded checkpoint; `settings` are shown beside a W&B run.
    """
    tracker = Tracker(warn)
    if rank != 0:
        return tracker
    tracker.add("metrics.jsonl", lambda: MetricsFile(folder / "metrics.jsonl", resume_after))
    if tensorboard is not None:
        tracker.add("TensorBoard", lambda: TensorBoard(tensorboard, resume_after))
    if wandb_project:
        mode = wandb_mode()
        if mode != "disabled":
            tracker.add(
                "Weights & Biases",
                lambda: WandbSink(folder, wandb_project, mode, settings or {}, resume_after),
            )
    return tracker
