"""A save that is cut off at any point leaves a checkpoint that loads, and nothing in the way.

The process ends, as by kill -9, at each of its file operations in turn (an audit hook counts them),
in the thread that writes and in the one that renames too.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from longseq.checkpoint.format import tensor_files
from longseq.checkpoint.format.folder import find_latest
from longseq.checkpoint.format.manifest import Entry
from longseq.checkpoint.owner import Lost, claim_folder, may_use
from longseq.checkpoint.saver import NoRoom, NotSaved, Saver
from longseq.checkpoint.state.share import NotFinite
from longseq.checkpoint.state.zero_state import engine_state
from longseq.errors import EXIT_FAILED, Gone, UserError
from longseq.parallel.agreement import Ranks
from longseq.parallel.mesh import Mesh
from longseq.reports.format import lacking
from tests.faults.small_engine import SmallEngine, load_newest, manifest_of, save_step

CRASHED = 9
OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}


def save_value(folder: Path, step: int) -> None:
    """A checkpoint whose weights all are the number of its step."""
    engine = SmallEngine(step)
    engine.step()
    save_step(folder, engine, step)


def loaded(folder: Path) -> int:
    """The step that a new run would go on from, everything read back."""
    engine, expected = SmallEngine(-1.0), SmallEngine(0.0)
    step = load_newest(folder, engine)
    expected = SmallEngine(step)
    expected.step()
    assert engine.numbers() == expected.numbers()
    return step


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
        save_value(folder, 1)
        if again:
            save_value(folder, 2)
        code = in_a_child(lambda: save_value(folder, 2), folder, crash_at)  # noqa: B023
        if code == 0:
            break
        assert code == CRASHED
        points += 1
        newest.add(loaded(folder))
        may_use(folder, find_latest(folder, pytest.fail)[0])  # the next run may write there
        save_value(folder, 3)  # the leftovers are in nobody's way
        assert loaded(folder) == 3
        names = {path.name for path in folder.iterdir()}
        assert names <= {"latest", "step-1", "step-2", "step-2.replaced", "step-3"}
        assert not {"step-2", "step-2.replaced"} <= names
    assert loaded(folder) == 2
    assert points > 15
    assert newest == ({2} if again else {1, 2})


def test_renaming_before_writing_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failsafe: with the order of a commit turned round, a crash in its middle loses a run."""
    from longseq.checkpoint.format import folder as folders

    def careless(folder: Path, step: int, manifest: Any) -> Path:
        final = folder / f"step-{step}"
        shutil.rmtree(final, ignore_errors=True)
        (folder / f"step-{step}.tmp").rename(final)
        manifest.write(final)
        (folder / "latest").write_text(final.name)
        return final

    monkeypatch.setattr(folders, "commit", careless)
    with pytest.raises(AssertionError):
        test_crash_at_every_file_operation(tmp_path, again=True)


def test_the_next_attempt_may_save_the_same_step(tmp_path: Path) -> None:
    save_value(tmp_path, 1)
    (tmp_path / "step-1" / "rank-00000.safetensors").write_bytes(b"")
    save_value(tmp_path, 1)
    assert loaded(tmp_path) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-1"]


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotSaved, match=r"checkpoint .*file/step-1 was not written: .*"):
        save_value(tmp_path / "file", 1)


def test_failure_on_another_rank_is_everyones(tmp_path: Path) -> None:
    """This rank could write; the other's disk was full: same sentence, nothing half-made stays."""
    seen = []

    def gather(item: Any) -> list[Any]:
        """The other rank says the same, until it has written."""
        seen.append(item)
        is_entry = isinstance(item, tuple) and isinstance(item[0], Entry)
        return [item, (None, (NoRoom, "no space left: /x")) if is_entry else item]

    with pytest.raises(NoRoom, match="step-1 was not written: no space left: /x"):
        save_step(tmp_path, SmallEngine(1.0), 1, Ranks(0, 2, gather))
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_the_one_before(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: a child of ours meets it half-way."""
    save_value(tmp_path, 1)
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
        try:
            save_value(tmp_path, 2)
        except NoRoom as error:
            os._exit(7 if "no space left" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert loaded(tmp_path) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-1"]


def test_space_is_looked_at_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 8, 1))
    assert lacking(420_500, 420_000) == "it needs 0.4 MiB, and 0.4 MiB are free, 500 bytes too few"
    with pytest.raises(NoRoom, match=r"it needs 2\d\.\d KiB, and 0\.0 KiB are free$"):
        save_value(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["weight", "moment"])
def test_what_is_not_finite_is_not_saved(tmp_path: Path, place: str) -> None:
    save_value(tmp_path, 1)
    engine = SmallEngine(2.0)
    engine.step()
    if place == "weight":
        engine.linear.weight.detach()[1, 1] = torch.nan
    else:
        engine.optimizer.state[engine.linear.weight]["exp_avg_sq"][0, 0] = torch.inf
    name = {"weight": "weight/0.weight", "moment": "exp_avg_sq/0.weight"}[place]
    with pytest.raises(NotFinite, match=f"step-2 was not written: {name} is not finite"):
        save_step(tmp_path, engine, 2)
    assert loaded(tmp_path) == 1


def test_training_goes_on_beside_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved are the numbers of when the save began; a writer's error is the run's."""
    import threading

    gate, usual = threading.Event(), tensor_files.write

    def slow(*arguments: Any) -> Any:
        assert gate.wait(30)
        return usual(*arguments)

    monkeypatch.setattr(tensor_files, "write", slow)
    engine = SmallEngine(1.0)
    engine.step()
    numbers = engine.numbers()
    saver = Saver(tmp_path, None, Ranks())
    saver.reserve(1 << 10)
    saver.save(engine_state(engine, Mesh.single()), manifest_of(1))
    engine.step()
    assert saver.advance() is None
    gate.set()
    saved = saver.finish()
    assert saved is not None
    again = SmallEngine(0.0)
    assert load_newest(tmp_path, again) == 1
    assert again.numbers() == numbers != engine.numbers()

    def failing(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error", "disk")

    monkeypatch.setattr(tensor_files, "write", failing)
    saver.save(engine_state(engine, Mesh.single()), manifest_of(2))
    with pytest.raises(NotSaved, match="step-2 was not written: Input/output error: disk") as end:
        saver.finish()
    assert isinstance(end.value, UserError)  # one line and no traceback
    assert end.value.exit_code == EXIT_FAILED
    assert load_newest(tmp_path, again) == 1


def test_another_run_that_takes_the_folder_is_noticed(tmp_path: Path) -> None:
    """Where there are no locks between hosts: the text says whose the folder is."""
    claim = claim_folder(tmp_path, None)
    (tmp_path / "owner.json").write_text('{"run": "another"}')
    with pytest.raises(Lost):
        claim.check()
    saver = Saver(tmp_path, claim, Ranks())
    with pytest.raises(NotSaved, match="another run has taken"):
        saver.save(engine_state(SmallEngine(1.0), Mesh.single()), manifest_of(1))
    claim.release()


@pytest.mark.parametrize(
    ("gone", "named"), [("", "checkpoints"), ("owner.json", "checkpoints/owner.json")]
)
def test_a_folder_that_is_gone_is_no_other_runs(tmp_path: Path, gone: str, named: str) -> None:
    """Nor a full disk: one line, and exit code 1."""
    folder = tmp_path / "checkpoints"
    claim = claim_folder(folder, None)
    saver = Saver(folder, claim, Ranks())
    (folder / gone).rename(tmp_path / "moved")
    with pytest.raises(Gone) as raised:
        saver.save(engine_state(SmallEngine(1.0), Mesh.single()), manifest_of(1))
    assert f"{tmp_path / named} is gone: it was removed or moved" in str(raised.value)
    assert raised.value.exit_code == 1
    claim.release()


def test_a_folder_that_goes_while_it_is_written_to(tmp_path: Path) -> None:
    engine = SmallEngine(1.0)
    engine.step()
    saver = Saver(tmp_path / "all", None, Ranks())
    saver.save(engine_state(engine, Mesh.single()), manifest_of(1))
    (tmp_path / "all").rename(tmp_path / "moved")
    with pytest.raises(Gone, match=r"step-1 was not written: .*/all/.* is gone"):
        saver.finish()


def test_only_some_are_kept(tmp_path: Path) -> None:
    engine = SmallEngine(1.0)
    for step in range(1, 8):
        save_step(tmp_path, engine, step, keep=(2, 3))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["latest", "step-3", "step-6", "step-7"]


def test_what_cannot_be_removed_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a save or after it, in the main thread; the run goes on."""

    def refuse(path: Path, **_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    engine, said = SmallEngine(1.0), list[str]()
    engine.step()
    saver = Saver(tmp_path, None, Ranks(), (1, 0), warn=said.append)
    monkeypatch.setattr(shutil, "rmtree", refuse)
    for step in range(1, 5):
        saver.save(engine_state(engine, Mesh.single()), manifest_of(step))
        assert saver.finish() is not None
    names = ("step-1", "step-1.tmp", "step-2", "step-2.tmp", "step-3")
    why = "cannot be removed: Device or resource busy"
    assert said == [f"{tmp_path / name} {why}" for name in names]
    assert load_newest(tmp_path, SmallEngine(0.0)) == 4


def test_random_states_come_back(tmp_path: Path) -> None:
    import random

    import numpy as np

    def draw() -> list[float]:
        return [random.random(), np.random.rand(), torch.rand(()).item()]

    engine = SmallEngine(1.0)
    engine.step()
    save_step(tmp_path, engine, 1)
    expected = draw()
    draw()
    load_newest(tmp_path, engine)
    assert draw() == expected


def test_ranks_on_a_cpu_leave_gpus_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are some: CUDA would take memory of one for each rank."""

    def touched() -> Callable[..., None]:
        """A new one each time: torch's compiler has a table of its functions, each once."""

        def begun(*_: Any, **__: Any) -> None:
            raise AssertionError("CUDA was begun")

        return begun

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "synchronize", touched())
    for name in ("get_rng_state", "set_rng_state", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, name, touched())
    # torch's own, which asks a GPU in sight whether it records a graph
    check = "_accelerator_graph_capture_health_check"
    monkeypatch.setattr(torch.optim.Optimizer, check, lambda _: None, raising=False)
    save_value(tmp_path, 3)
    engine = SmallEngine(0.0)
    assert load_newest(tmp_path, engine, same_layout=True) == 3
    assert engine.numbers()[:4] != [0.0] * 4
