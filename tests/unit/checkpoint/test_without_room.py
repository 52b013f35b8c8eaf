"""What a run does about checkpoints that find no room, with a disk of this test's own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from longseq.checkpoint import run_checkpoints
from longseq.checkpoint.run_checkpoints import RunCheckpoints
from longseq.checkpoint.saver import NoRoom, Saved
from longseq.config.checks import parse_config
from longseq.errors import BadNumbers, UserError
from longseq.parallel.agreement import Ranks
from longseq.parallel.mesh import Mesh


class Disk:
    """A saver whose files, at once or later, have room or not."""

    copies = False

    def __init__(self) -> None:
        self.room, self.room_later = True, True
        self.step: int | None = None
        self.tried: list[int] = []

    def save(self, _state: Any, manifest: Any, _beside: Any) -> None:
        step = manifest.progress["iteration"]
        self.tried.append(step)
        if not self.room:
            raise NoRoom(f"step-{step}")
        self.step = step

    def finish(self) -> Saved | None:
        step, self.step = self.step, None
        if step is None:
            return None
        if not self.room_later:
            raise NoRoom(f"step-{step}")
        return Saved(Path(f"step-{step}"), step, 1, 1.0, 1.0)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run of 12 iterations; .disk and .said."""
    monkeypatch.setattr(run_checkpoints, "engine_state", lambda *_: None)
    monkeypatch.setattr(run_checkpoints, "numbering", lambda *_: {"sha256": ""})
    config = parse_config("--num-layers 2 --train-iters 12".split(), 1)
    tokenizer = SimpleNamespace(specification="nucleotide")
    data: Any = SimpleNamespace(cuts=[], vocab_size=16, tokenizer=tokenizer)
    made: Any = RunCheckpoints(config, data, None, Mesh.single(), Ranks())
    made.said, made.disk = [], Disk()
    made._warn, made._saver = made.said.append, made.disk
    went_to = Path("step-4"), SimpleNamespace(progress={})
    monkeypatch.setattr(made, "_restore", lambda *_: went_to)
    return made


def save(kept: Any, iteration: int) -> None:
    kept.save({"iteration": iteration}, {})


def test_one_iteration_is_tried_once_and_the_last_one_told_at_the_end(kept: Any) -> None:
    save(kept, 4)
    kept.disk.room = False
    for iteration in (8, 8, 12, 12):  # due, and at the end
        save(kept, iteration)
    assert kept.disk.tried == [4, 8, 12]
    assert kept.said == [
        "step-8; step-4 is the newest; training goes on, and the next save tries again: free some"
    ]
    assert kept.lack == "step-12; step-4 is the newest: free some"
    assert not kept.has(12)


def test_of_the_one_at_an_early_end_the_end_speaks(kept: Any) -> None:
    kept.disk.room_later = False
    save(kept, 5)
    kept.ends_at = 5  # told to stop beside it
    save(kept, 5)
    kept.finish()
    assert (kept.disk.tried, kept.said) == ([5], [])
    assert kept.lack == "step-5; there is none yet: free some"


def test_what_is_saved_after_one_that_found_no_room_is_tried(kept: Any) -> None:
    save(kept, 8)
    kept.disk.room_later = False
    save(kept, 12)  # the one before turns out to have had no room
    assert (kept.disk.tried, len(kept.said)) == ([8, 12], 1)
    kept.disk.room_later = True
    kept.finish()
    assert kept.has(12)


def test_what_is_said_of_a_full_disk_is_said_once(kept: Any) -> None:
    """A run may save every few minutes of a night."""
    kept.disk.room = False
    for iteration in (1, 2, 3):
        save(kept, iteration)
    kept.disk.room = True
    save(kept, 4)
    kept.settle()
    kept.disk.room = False
    save(kept, 5)
    begins = [said.split(";")[0] for said in kept.said]
    none = "no room for the checkpoint of iteration"
    assert begins == ["step-1", f"{none} 2: 2 in a row", f"{none} 3: 3 in a row", "step-5"]


def test_after_going_back_an_iteration_is_tried_again(kept: Any) -> None:
    save(kept, 4)
    kept.settle()
    kept.disk.room = False
    save(kept, 8)
    kept.disk.room = True
    kept.go_back(print)
    save(kept, 8)
    kept.finish()
    assert kept.has(8)


def test_a_damaged_one_that_was_gone_behind_is_not_there(kept: Any) -> None:
    for iteration in (4, 8):
        save(kept, iteration)
    kept.settle()
    kept.go_back(print)
    assert kept.last == Path("step-4")
    assert not kept.has(8)
    save(kept, 8)
    kept.settle()
    assert kept.disk.tried == [4, 8, 8]
    assert kept.has(8)


def test_where_all_of_its_own_are_damaged_it_goes_back_to_what_was_loaded(
    kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = Path("before/step-2")

    def restore(place: Path, _warn: object, asked: str) -> Any:
        if place != loaded:
            raise UserError(f"{asked}: checkpoint {place / 'step-4'} is damaged: x")
        return place, SimpleNamespace(progress={"iteration": 2})

    monkeypatch.setattr(kept, "_restore", restore)
    kept.loaded = loaded
    save(kept, 4)
    kept.settle()
    assert kept.go_back(print) == {"iteration": 2}
    assert (kept.newest, kept.last) == (None, loaded)
    save(kept, 4)
    kept.settle()
    assert kept.disk.tried == [4, 4]
    kept.loaded = None
    with pytest.raises(BadNumbers) as raised:
        kept.go_back(print)
    assert str(raised.value) == (
        "--on-spike rewind: checkpoint step-4 is damaged: x; the run itself has no whole one to"
        " go back to"
    )
