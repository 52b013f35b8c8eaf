"""Memory for a checkpoint's copy: taken where there is room beside what the next step takes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from longseq.checkpoint import saver
from longseq.checkpoint.saver import Saver
from longseq.parallel.agreement import Ranks
from tests.faults.small_engine import SmallEngine, load_newest, save_step


@pytest.mark.parametrize(
    ("free", "limit", "wanted", "copies"),
    [
        (2000, 9999, 0, True),
        (1999, 9999, 0, False),
        (9999, 1999, 0, False),  # `ulimit -d`
        (9999, 2500, 500, True),
        (9999, 2500, 501, False),
    ],
)
def test_a_copy_is_made_where_there_is_room(
    free: int,
    limit: int,
    wanted: int,
    copies: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(saver, "available_bytes", lambda: free)
    monkeypatch.setattr(saver, "own_limit_bytes", lambda: limit)
    writes = Saver(tmp_path, None, Ranks())
    writes.reserve(1000, wanted)
    assert writes.copies is copies


@pytest.mark.parametrize("beside", [True, False])
def test_without_a_thread_the_step_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    """`ulimit -u` or `ulimit -v`: what was trained is not lost."""

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    engine = SmallEngine(1.0)
    engine.step()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        saved = save_step(tmp_path, engine, 3, beside_training=beside)
    assert saved.step == load_newest(tmp_path, SmallEngine(0.0)) == 3
