"""Where the numbers go: nothing lost, nothing twice, and no sink stops a training."""

import json
import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from longseq.reports.plots import PARTS
from longseq.reports.runs import read_metrics
from longseq.run.tracking import (
    METRICS,
    MetricsFile,
    TensorBoard,
    Tracker,
    open_tracker,
    set_aside_after,
)


def record(iteration: int, **more: Any) -> dict[str, Any]:
    return {"iteration": iteration, "lm_loss": 1 / iteration, **more}


def iterations(path: Path) -> list[int]:
    return [r["iteration"] for r in read_metrics(path)[0]]


def test_each_line_is_on_disk_at_once_and_strict_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = MetricsFile(path)
    sink.write(record(1, grad_norm=math.nan, tflops=math.inf))
    line = path.read_text().splitlines()[0]  # read before it is closed
    got = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert got == {"iteration": 1, "lm_loss": 1.0, "grad_norm": None, "tflops": None}
    sink.close(0)


def test_resumed_run_has_every_iteration_once(tmp_path: Path) -> None:
    """Killed at 7 with a checkpoint at 5, in the middle of a line."""
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path)
    for i in range(1, 8):
        first.write(record(i))
    first.close(0)
    with path.open("a") as file:
        file.write('{"iteration": 8, "lm_lo')
    again = MetricsFile(path, resume_after=5)
    for i in range(6, 10):
        again.write(record(i, attempt=2))
    again.close(0)
    assert iterations(path) == list(range(1, 10))
    assert [r.get("attempt") for r in read_metrics(path)[0]] == [None] * 5 + [2] * 4
    aside = (tmp_path / "metrics-abandoned.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in aside[:2]] == [6, 7]
    assert aside[2].startswith('{"iteration": 8')


def test_nothing_is_set_aside_where_nothing_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iteration": 1}\n')
    set_aside_after(path, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_going_back_in_the_middle_and_adding_to_the_last_line(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path, pytest.fail, tensorboard=tmp_path / "tb")
    tracker.add_to_last({"bytes": 1})  # there is no record yet
    for i in range(1, 6):
        tracker.log({"iteration": i, "lm_loss": 1.0})
    tracker.go_back(3)
    tracker.log({"iteration": 4, "lm_loss": 2.0})
    tracker.add_to_last({"bytes": 7})
    tracker.log({"iteration": 5, "lm_loss": 2.0})
    tracker.add_to_last({"bytes": 8})
    tracker.close()
    found = read_metrics(tmp_path / "metrics.jsonl")[0]
    assert [(r["iteration"], r["lm_loss"], r.get("bytes")) for r in found] == [
        (1, 1.0, None),
        (2, 1.0, None),
        (3, 1.0, None),
        (4, 2.0, 7),
        (5, 2.0, 8),
    ]
    assert iterations(tmp_path / "metrics-abandoned.jsonl") == [4, 5]
    assert points(tmp_path / "tb", "lm_loss") == {1: 1.0, 2: 1.0, 3: 1.0, 4: 2.0, 5: 2.0}
    assert points(tmp_path / "tb", "bytes") == {4: 7.0, 5: 8.0}


@contextmanager
def no_room(path: Path, bytes_left: int = 10) -> Iterator[None]:
    """The kernel's limit of a file's size stands for a full disk: it cuts a record in two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + bytes_left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_records_wait_for_room(tmp_path: Path) -> None:
    said: list[str] = []
    tracker = open_tracker(tmp_path, said.append)
    tracker.log({"iteration": 1, "lm_loss": 1.0})
    path = tmp_path / "metrics.jsonl"
    with no_room(path):
        for i in range(2, 5):
            tracker.log({"iteration": i, "lm_loss": float(i)})
        tracker.add_to_last({"bytes": 4})
        assert path.read_text() == '{"iteration": 1, "lm_loss": 1.0}\n'
    tracker.log({"iteration": 5, "lm_loss": 5.0})
    tracker.close()
    found = read_metrics(path)[0]
    assert [(r["lm_loss"], r.get("bytes")) for r in found] == [
        (1.0, None), (2.0, None), (3.0, None), (4.0, 4), (5.0, None),
    ]  # fmt: skip
    assert len(said) == 1
    assert "no space left" in said[0]


def test_tensorboard_waits_for_room(tmp_path: Path) -> None:
    said: list[str] = []
    tracker = Tracker(said.append)
    tracker.add("TensorBoard", lambda: TensorBoard(tmp_path / "tb"))
    tracker.log(record(1))
    (path,) = (tmp_path / "tb").iterdir()
    for first in (2, 6):
        with no_room(path):
            for i in range(first, first + 3):
                tracker.log(record(i))
            assert max(points(tmp_path / "tb", "lm_loss")) == first - 1
        tracker.log(record(first + 3))
    tracker.close()
    assert points(tmp_path / "tb", "lm_loss") == pytest.approx({i: 1 / i for i in range(1, 10)})
    assert [text.split(": ")[1][:13] for text in said] == ["no space left"] * 2  # once each time


def test_going_back_waits_for_room(tmp_path: Path) -> None:
    said: list[str] = []
    tracker = open_tracker(tmp_path, said.append)
    for i in range(1, 6):
        tracker.log(record(i))
    path = tmp_path / "metrics.jsonl"
    (tmp_path / "metrics-abandoned.jsonl").write_text("x" * path.stat().st_size)
    with no_room(path, -10):
        tracker.go_back(3)
        tracker.log(record(4, attempt=2))
        assert iterations(path) == [1, 2, 3, 4, 5]
    tracker.log(record(5, attempt=2))
    with no_room(path):
        tracker.add_to_last({"bytes": 5})
    tracker.close()
    assert [(r["iteration"], r.get("attempt"), r.get("bytes")) for r in read_metrics(path)[0]] == [
        (1, None, None), (2, None, None), (3, None, None), (4, 2, None), (5, 2, 5),
    ]  # fmt: skip
    aside = (tmp_path / "metrics-abandoned.jsonl").read_text().lstrip("x").splitlines()
    assert [json.loads(line)["iteration"] for line in aside] == [4, 5]
    assert len(said) == 2


def test_what_found_no_room_until_the_end_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    tracker = open_tracker(tmp_path, said.append)
    tracker.log(record(1))
    with no_room(tmp_path / "metrics.jsonl"):
        tracker.log(record(2))
        tracker.close()
    assert said[1] == said[0] + "; the run ends, so they are lost"


def points(folder: Path, tag: str) -> dict[int, float]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(tag)}


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    sink = TensorBoard(tmp_path)
    for i in (1, 2):
        sink.write(record(i, validation_loss=None if i == 1 else 0.25))
    sink.close(0)
    assert points(tmp_path, "lm_loss") == {1: 1.0, 2: 0.5}
    assert points(tmp_path, "validation_loss") == {2: 0.25}


def test_tensorboard_forgets_the_abandoned_attempt(tmp_path: Path) -> None:
    for attempt, steps in ((1, range(1, 6)), (2, range(4, 5))):
        sink = TensorBoard(tmp_path, resume_after=0 if attempt == 1 else 3)
        for i in steps:
            sink.write({"iteration": i, "lm_loss": float(attempt)})
        sink.close(0)
    assert points(tmp_path, "lm_loss") == {1: 1.0, 2: 1.0, 3: 1.0, 4: 2.0}


class Broken:
    def __init__(self, after: int) -> None:
        self.left = after

    def write(self, _record: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(28, "No space left on device")

    def add_to_last(self, record: object) -> None:
        self.write(record)

    def go_back(self, _iteration: int) -> None:
        raise AssertionError("a dropped sink is left alone")

    def close(self, _exit_code: int, /) -> None:
        raise AssertionError("a dropped sink is left alone")


def test_failing_sink_is_named_once_and_the_others_go_on(tmp_path: Path) -> None:
    said: list[str] = []
    tracker = Tracker(said.append)
    tracker.add("broken", lambda: Broken(1))
    tracker.add("metrics.jsonl", lambda: MetricsFile(tmp_path / "m.jsonl"))
    tracker.add("impossible", lambda: MetricsFile(tmp_path / "no" / "m.jsonl"))
    for i in range(1, 5):
        tracker.log(record(i))
    tracker.close()
    tracker.close()
    assert iterations(tmp_path / "m.jsonl") == [1, 2, 3, 4]
    assert len(said) == 2
    assert said[0].startswith("impossible takes no more records: FileNotFoundError")
    assert said[1].startswith("broken takes no more records: OSError")


def test_a_folder_that_was_moved_is_named_as_gone(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "m.jsonl"
    tracker = Tracker(said.append)
    tracker.add("metrics.jsonl", lambda: MetricsFile(path))
    tracker.log(record(1))
    path.parent.rename(tmp_path / "moved")
    tracker.log(record(2))
    tracker.add_to_last({"more": 1})
    assert said == [
        f"metrics.jsonl takes no more records: {path} is gone: it was removed or moved while this"
        " run used it"
    ]
    assert iterations(tmp_path / "moved" / "m.jsonl") == [1, 2]


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path, print, rank=1, tensorboard=tmp_path / "tb", wandb_project="p")
    tracker.log(record(1))
    tracker.close()
    assert list(tmp_path.iterdir()) == []


def test_every_metric_is_defined_in_the_docs() -> None:
    text = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    parts = [f"{part}_seconds" for part in PARTS]
    assert [name for name in (*METRICS, *parts) if f"`{name}`" not in text] == []
