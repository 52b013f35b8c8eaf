"""Who is named where ranks wait: the silent one, the busy one, the one behind; and who is not."""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from longseq.host.atomic_files import tick
from longseq.run.safety import heartbeat
from longseq.run.safety.hangs import Listener, Seen, find_stopped
from longseq.run.safety.heartbeat import DEVICE, Beat, Heart, beat_file, read_beat, where

CALL = ["longseq/training/trainer.py:9 in step", "longseq/parallel/collectives.py:7 in all_reduce"]

READS = ["longseq/training/trainer.py:9 in value", "/x/torch/cuda/streams.py:7 in synchronize"]


def beat(rank: int, waits: str = "all_reduce", still: float = 70.0, **more: object) -> Beat:
    stack = CALL if waits else ["longseq/data/files.py:3 in read"]
    values = {"step": 5, "phase": "step", "stack": stack} | more
    return Beat(rank, f"host{rank}", 100 + rank, 9, waits_in=waits, still=still, **values)  # type: ignore[arg-type]


def seen(*beats: Beat, silent: int = -1) -> dict[int, Seen]:
    return {b.rank: Seen(b, 80.0 if b.rank == silent else 0.5) for b in beats}


def test_a_silent_rank_is_named_with_all_that_is_known() -> None:
    verdict = find_stopped(seen(beat(0), beat(1, "", 0), beat(2), silent=1), 60, 60)
    assert verdict
    assert (verdict.rank, verdict.host) == (1, "host1")
    lines = verdict.text.splitlines()
    assert lines[0] == (
        "rank 1 (process 101) on host1 has stopped: no sign of life for 80 s, the last in"
        " iteration 5 (step)"
    )
    assert lines[1] == (
        "it misses all_reduce of iteration 5, where 2 other rank(s) wait:"
        " longseq/training/trainer.py:9 in step"
    )
    assert lines[-1] == "  longseq/data/files.py:3 in read"


@pytest.mark.parametrize(
    ("beats", "named"),
    [
        ([beat(0), beat(1, "", still=0.1), beat(2)], 1),  # busy for ever, while two wait
        ([beat(0), beat(1), beat(2, step=4)], 2),  # an iteration behind
        ([beat(0), beat(1, "barrier"), beat(2)], 1),  # another exchange than all others
        ([beat(0, still=50), beat(1, "", 0.1)], None),  # not for long enough
        ([beat(0), beat(1, "", 0.1, phase="save"), beat(2, phase="save")], None),  # writes
        ([beat(0, phase="save"), beat(1, "", 90, phase="save")], 1),  # writes nothing any more
        ([beat(0, "", 90)], None),  # alone: a long kernel
        ([beat(0), beat(1, phase="end")], None),  # done
        ([beat(0, "", 0, phase="closing"), beat(1, still=70, phase="closing")], None),  # a page
        ([beat(0, "", 70, phase="closing"), beat(1, still=70, phase="closing")], None),
    ],
)
def test_who_is_waited_for(beats: list[Beat], named: int | None) -> None:
    verdict = find_stopped(seen(*beats), 60, 60)
    assert (verdict.rank if verdict else None) == named


def test_who_waits_for_the_others_to_end_may_be_silent() -> None:
    last = [beat(0, "", 0), beat(1, phase="closing"), beat(2)]
    assert find_stopped(seen(*last, silent=1), 60, 600) is None
    assert find_stopped(seen(*last, silent=2), 60, 600) is not None


def gpu(rank: int, line: str = READS[0], still: float = 70.0, **more: object) -> Beat:
    return beat(rank, DEVICE, still, stack=[line, READS[1]], **more)


@pytest.mark.parametrize(
    ("beats", "named"),
    [
        ([gpu(0), beat(1, "", 70), gpu(2)], 1),  # stands in its data
        ([gpu(0), gpu(1), gpu(2, step=4)], 2),  # an iteration behind
        ([gpu(0), gpu(1), gpu(2, "longseq/model/layers.py:5 in forward")], 2),  # alone elsewhere
        ([gpu(0), gpu(1, "longseq/model/layers.py:5 in forward")], -1),  # which of two?
        ([gpu(0), gpu(1), gpu(2)], -1),
        ([beat(0), gpu(1)], 1),  # an exchange between hosts waits for it
        ([beat(0), gpu(1, still=1), beat(2)], 1),  # likewise, whatever it does
        ([gpu(0), gpu(1, still=50)], None),  # not for long enough
        ([gpu(0), beat(1, "", 0.1)], None),  # long kernels of its own, the other works
        ([gpu(0), gpu(1, still=3), gpu(2)], None),
        ([gpu(0)], None),
    ],
)
def test_who_is_waited_for_on_gpus(beats: list[Beat], named: int | None) -> None:
    verdict = find_stopped(seen(*beats), 60, 60)
    assert ((verdict.rank if verdict.host else -1) if verdict else None) == named


def test_gpus_are_waited_for_as_long_as_a_step() -> None:
    all_wait = seen(gpu(0), gpu(1), gpu(2))
    assert find_stopped(all_wait, 60, 60, 80) is None
    verdict = find_stopped(all_wait, 60, 60, 70)
    assert verdict
    assert verdict.text == (
        "all 3 ranks have waited for their GPUs for 70 s, most of them here:"
        " longseq/training/trainer.py:9 in value: the network, or a kernel longer than"
        " --hang-timeout?"
    )
    verdict = find_stopped(seen(gpu(0), beat(1, "", 90), gpu(2)), 60, 60)
    assert verdict
    assert verdict.text.splitlines()[1] == (
        "2 other rank(s) wait for their GPUs in iteration 5: longseq/training/trainer.py:9 in value"
    )


def test_a_line_that_reads_from_a_gpu_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not `float` on a CPU, and not what a rank does in its data."""
    monkeypatch.setattr(heartbeat, "ROOT", "/x/")

    def waits(*places: str) -> str:
        """In a function of the last of these files, which those before call."""
        found: list[str] = []

        def call() -> None:
            found.append(where(sys._getframe(1))[0])

        for place in reversed(places):
            scope: dict[str, Any] = {"go": call}
            exec(compile("def norm():\n    go()\n", f"/x/{place}", "exec"), scope)
            call = scope["norm"]
        call()
        return found[0]

    assert waits("longseq/engine/stage0.py") == ""
    monkeypatch.setattr(heartbeat, "_on_gpu", lambda: True)
    assert waits("longseq/engine/stage0.py") == DEVICE
    assert waits("longseq/training/trainer.py", "py/torch/cuda/streams.py") == DEVICE
    assert waits("longseq/training/feed.py") == ""
    assert waits("longseq/training/feed.py", "py/torch/cuda/streams.py") == ""
    assert waits("longseq/engine/nvme.py", "py/subprocess.py") == ""
    assert waits("longseq/model/gpt.py", "py/torch/utils/file_baton.py") == ""


def test_backward_moves_while_the_main_thread_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, line = 100.0, 1
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(heartbeat, "where", lambda _: (DEVICE, ["longseq/training/trainer.py:9"]))
    monkeypatch.setattr(heartbeat, "_backward", lambda _: [f"layers.py:{line}"])
    heart = Heart(tmp_path, 0)
    heart.beat(1, "step")
    now, line = 110.0, 2
    assert heart.beat(1, "step").still == 0
    now = 130.0
    assert heart.beat(1, "step").still == 20


@pytest.mark.parametrize(
    ("phase", "still"),
    [("start", 0.0), ("save", 0.0), ("load", 0.0), ("step", 20.0), ("validation", 20.0)],
)
def test_work_on_files_is_a_move_where_it_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, still: float
) -> None:
    """As is a checkpoint that is loaded at the start. Beside the others a save goes on."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(heartbeat, "where", lambda _: ("", ["longseq/checkpoint/saver.py:9"]))
    heart = Heart(tmp_path, 0)
    heart.beat(1, phase)
    tick()
    now = 120.0
    assert heart.beat(1, phase).still == still
    now = 130.0
    assert heart.beat(1, phase).still == still + 10


def test_a_beat_is_closed_at_once(tmp_path: Path) -> None:
    """An NFS client sends what was written to the others then, and else in its own time."""
    Heart(tmp_path, 0).beat(1, "step")
    ours = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.exists()]
    assert str(beat_file(tmp_path, 0)) not in ours


def test_nobody_is_blamed_where_all_wait_for_all() -> None:
    verdict = find_stopped(seen(beat(0), beat(1)), 60, 60)
    assert verdict
    assert verdict.host == ""
    assert "all 2 ranks wait for each other in all_reduce" in verdict.text


def test_a_rank_that_never_came_is_named() -> None:
    verdict = find_stopped({0: Seen(beat(0), 0), 1: Seen(None, 61.0)}, 60, 60)
    assert verdict
    assert verdict.text.startswith("rank 1 has not started")


def test_silence_is_counted_from_the_last_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    heart, listener = Heart(tmp_path, 3), Listener(tmp_path, [3])
    heart.beat(1, "step")
    listener.listen(10)
    now += 8
    assert listener.listen(10)[3].silent == 8
    heart.beat(1, "step")
    assert listener.listen(10)[3].silent == 0
    now += 1000  # this machine was asleep, and so was the other rank
    assert listener.listen(10)[3].silent == 0
    beat_file(tmp_path, 3).write_text("half a fi")
    now += 5
    assert listener.listen(10)[3].silent == 5


def test_a_full_disk_does_not_stop_a_heart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heart = Heart(tmp_path, 0)
    heart.beat(1, "step")
    os.utime(beat_file(tmp_path, 0), (1, 1))
    listener = Listener(tmp_path, [0])
    listener.listen()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    heart.beat(2, "step")
    found = read_beat(tmp_path, 0)
    assert found
    assert found[0].step == 1
    assert found[1] > 1  # its time has changed, which counts


def test_a_stack_ends_where_ranks_wait() -> None:
    source = "def all_reduce(go):\n    go()\n"
    scope: dict[str, object] = {}
    exec(compile(source, "/x/longseq/parallel/collectives.py", "exec"), scope)
    found: list[tuple[str, list[str]]] = []

    def deeper() -> None:
        found.append(where(sys._getframe()))

    scope["all_reduce"](deeper)  # type: ignore[operator]
    name, stack = found[0]
    assert name == "all_reduce"
    assert stack[-1].endswith("/longseq/parallel/collectives.py:2 in all_reduce")
    assert stack[-2].startswith("tests/unit/run/safety/test_hangs.py:")
    assert where(sys._getframe())[0] == ""


def test_a_beat_says_where_the_main_thread_is(tmp_path: Path) -> None:
    heart = Heart(tmp_path, 0)
    thread = threading.Thread(target=lambda: heart.beat(7, "step"))
    thread.start()
    thread.join()
    found = read_beat(tmp_path, 0)
    assert found
    assert found[0].pid == os.getpid()
    assert any("test_a_beat_says_where_the_main_thread_is" in line for line in found[0].stack)
