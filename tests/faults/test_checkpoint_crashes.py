"""A save that is cut off at any point leaves a checkpoint that loads, and nothing in the way.

The process ends, as by kill -9, at each of its file operations in turn (an audit hook counts them).
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from longseq.checkpoint.checkpoint import find_latest, load, save
from longseq.errors import UserError
from longseq.parallel.agreement import Ranks

ALONE = Ranks()
LAYOUT = {"tp": 1}
CRASHED = 9


class Engine:
    """What a checkpoint needs of a DeepSpeed engine."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.checkpoint_engine: Any = None

    def zero_optimization(self) -> bool:
        return False

    def save_checkpoint(self, folder: str, tag: str, save_latest: bool) -> None:
        assert not save_latest
        for name in ("model.pt", "optimizer.pt"):
            self.checkpoint_engine.save({"value": self.value}, os.path.join(folder, tag, name))
        Path(folder, "convert.py").write_text("# DeepSpeed leaves a script beside it")

    def load_checkpoint(self, folder: str, tag: str) -> tuple[str, dict[str, Any]]:
        path = Path(folder, tag, "model.pt")
        self.value = torch.load(path)["value"]
        return str(path), {}


def save_step(folder: Path, step: int) -> None:
    save(
        Engine(step),
        folder,
        step,
        client_state={"step": step, "tensor": torch.arange(step)},
        layout=LAYOUT,
        versions={},
        ranks=ALONE,
    )


def loaded(folder: Path) -> int:
    """The step that a new run would go on from, everything read back."""
    said: list[str] = []
    engine = Engine(-1)
    path = find_latest(folder, ALONE, said.append)
    state = load(engine, path, layout=LAYOUT, ranks=ALONE)
    assert said == []
    assert engine.value == state["step"] == len(state["tensor"])
    return int(engine.value)


OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}


def in_a_child(act: Callable[[], None], folder: Path, crash_at: int) -> int:
    """Run `act` in a child that ends at its `crash_at`-th file operation; its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seen = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in OPERATIONS and str(args[0]).startswith(str(folder)):
            seen += 1
            if seen == crash_at:
                os._exit(CRASHED)

    sys.addaudithook(hook)
    try:
        act()
        os._exit(0)
    except BaseException:
        os._exit(1)


@pytest.mark.parametrize("again", [False, True], ids=["new step", "step that exists"])
def test_crash_at_every_file_operation(tmp_path: Path, again: bool) -> None:
    crash_at, points, newest = 0, 0, set()
    while True:
        crash_at += 1
        folder = tmp_path / f"at-{crash_at}"
        save_step(folder, 1)
        if again:
            save_step(folder, 2)
        code = in_a_child(lambda: save_step(folder, 2), folder, crash_at)  # noqa: B023
        if code == 0:
            break
        assert code == CRASHED
        points += 1
        newest.add(loaded(folder))
        save_step(folder, 3)  # the leftovers are in nobody's way
        assert loaded(folder) == 3
        names = {path.name for path in folder.iterdir()}
        assert names <= {"latest", "step-1", "step-2", "step-2.replaced", "step-3"}
        assert not {"step-2", "step-2.replaced"} <= names
    assert loaded(folder) == 2
    assert points > 15
    assert newest == ({2} if again else {1, 2})


def test_the_next_attempt_may_save_the_same_step(tmp_path: Path) -> None:
    save_step(tmp_path, 1)
    damaged = tmp_path / "step-1" / "state" / "model.pt"
    damaged.write_bytes(b"")
    save_step(tmp_path, 1)
    assert loaded(tmp_path) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-1"]


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"checkpoint .*file/step-1 cannot be written: .*"):
        save_step(tmp_path / "file", 1)


def test_failure_on_another_rank_is_everyones(tmp_path: Path) -> None:
    """This rank could write; the other's disk was full: same sentence, nothing half-made stays."""
    calls = 0

    def gather(item: Any) -> list[Any]:
        nonlocal calls
        calls += 1
        return [item, (None, "no space left: /x")] if calls == 2 else [item, (None, None)]

    with pytest.raises(UserError, match="step-1 cannot be written: no space left: /x"):
        save(
            Engine(1),
            tmp_path,
            1,
            client_state={},
            layout=LAYOUT,
            versions={},
            ranks=Ranks(0, 2, gather),
        )
    assert list(tmp_path.iterdir()) == []


def test_random_states_come_back(tmp_path: Path) -> None:
    import random

    import numpy as np

    def draw() -> list[float]:
        return [random.random(), np.random.rand(), torch.rand(()).item()]

    save_step(tmp_path, 1)
    expected = draw()
    draw()
    assert loaded(tmp_path) == 1
    assert draw() == expected
