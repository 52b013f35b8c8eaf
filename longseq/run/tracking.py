"""Where the numbers of a run go: metrics.jsonl, TensorBoard and Weights & Biases.

    tracker = Tracker(warn)
    tracker.add("metrics.jsonl", lambda: MetricsFile(folder / "metrics.jsonl", resume_after=10))
    tracker.add("TensorBoard", lambda: TensorBoard(folder / "tensorboard", resume_after=10))
    tracker.log({"iteration": 11, "lm_loss": 1.3, …})
    tracker.close()

or `open_tracker(folder, …)`, which does all of that. Only rank 0 has sinks; a tracker without any
does nothing. A sink that fails is named once and dropped, and the training goes on.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from longseq.host.atomic_files import NO_ROOM, replace_file
from longseq.reports.runs import parse_record

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
            self._drop(name, error)

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
            except Exception as error:
                self._drop(name, error)

    def close(self, exit_code: int = 0) -> None:
        """Flush and end every sink; safe to call twice. `exit_code` marks the run as failed or
        not.
        """
        while self._sinks:
            name, sink = self._sinks.popitem()
            try:
                sink.close(exit_code)
            except Exception as error:
                self._drop(name, error)

    def _drop(self, name: str, error: Exception) -> None:
        self._sinks.pop(name, None)
        self._warn(f"{name} takes no more records: {type(error).__name__}: {error}")


class Waiting(Exception):
    """A sink keeps its records in memory until there is room on the disk."""


class MetricsFile:
    """One JSON object a line and iteration, each there at once, so that a killed run keeps what it
    measured. On a full disk lines wait, and each new one tries again.
    """

    def __init__(self, path: Path, resume_after: int = 0) -> None:
        """Append to `path` after iteration `resume_after`; later lines, of an attempt whose end
        was lost, move to metrics-abandoned.jsonl beside it, so that no iteration stands twice.
        """
        self._path = path
        self._lines: list[str] = []  # that are not in the file yet
        self._open(resume_after)

    def _open(self, resume_after: int) -> None:
        set_aside_after(self._path, resume_after)
        self._file = self._path.open("ab", buffering=0)

    def write(self, record: Record) -> None:
        self._lines.append(json_line(record))
        self._put()

    def _put(self) -> None:
        while self._lines:
            before, line = self._path.stat().st_size, self._lines[0].encode()
            try:
                whole = self._file.write(line) == len(line)
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                whole = False
            if not whole:
                self._file.truncate(before)
                raise Waiting(f"{self._path}: no space left, its records wait in memory for room")
            del self._lines[0]

    def add_to_last(self, record: Record) -> None:
        """Write the last line anew, with more in it."""
        if self._lines:
            self._lines[-1] = json_line(json.loads(self._lines[-1]) | dict(record))
            self._put()
            return
        *before, last = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        replace_file(self._path, "".join(before) + json_line(json.loads(last) | dict(record)))
        self._file.close()
        self._file = self._path.open("ab", buffering=0)

    def go_back(self, iteration: int) -> None:
        """Move the lines of later iterations to metrics-abandoned.jsonl; those that wait for room
        are forgotten.
        """
        self._lines = [line for line in self._lines if json.loads(line)["iteration"] <= iteration]
        self._file.close()
        self._open(iteration)

    def close(self, _exit_code: int, /) -> None:
        self._put()
        self._file.close()


def json_line(record: Record) -> str:
    """One line of strict JSON: nan and infinity, which JSON has no word for, become null."""
    clean = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in record.items()
    }
    return json.dumps(clean, allow_nan=False) + "\n"


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
    with path.with_name(path.stem + "-abandoned.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(aside)
    replace_file(path, "".join(keep))


class TensorBoard:
    """TensorBoard's own event writer: torch.utils.tensorboard takes ten times as long to import."""

    def __init__(self, folder: Path, resume_after: int = 0) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2, summary_pb2
        self._writer = EventFileWriter(str(folder), flush_secs=10)
        if resume_after:
            self.go_back(resume_after)

    def add_to_last(self, record: Record) -> None:
        self.write(record)

    def go_back(self, iteration: int) -> None:
        """Tell TensorBoard to forget the points of later iterations."""
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        self._add(iteration + 1, session_log=start)

    def _add(self, step: int, **what: Any) -> None:
        self._writer.add_event(self._event.Event(step=step, wall_time=time.time(), **what))

    def write(self, record: Record) -> None:
        values = [
            self._summary.Summary.Value(tag=tag, simple_value=float(value))
            for tag, value in record.items()
            if tag != "iteration" and isinstance(value, int | float)
        ]
        self._add(record["iteration"], summary=self._summary.Summary(value=values))

    def close(self, _exit_code: int, /) -> None:
        self._writer.close()


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
        from longseq.run.wandb_sink import WandbSink, wandb_mode

        mode = wandb_mode()
        if mode != "disabled":
            tracker.add(
                "Weights & Biases",
                lambda: WandbSink(folder, wandb_project, mode, settings or {}, resume_after),
            )
    return tracker
