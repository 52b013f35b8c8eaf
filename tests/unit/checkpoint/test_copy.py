"""Memory for a checkpoint's copy: taken where there is room beside what the next step takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from longseq.checkpoint import saver
from longseq.checkpoint.saver import Saver
from longseq.parallel.agreement import Ranks


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
