"""A run that is killed while its state lies in files: the next one clears them away and works."""

from __future__ import annotations

from pathlib import Path

import pytest

from longseq.engine import nvme
from tests.faults.kill_many import FILES, killed_run
from tests.parallel.ranks import operator_is_built


@pytest.mark.skipif(
    not operator_is_built(), reason="async_io is not built: OFFLOAD_DEVICE=nvme builds it, once"
)
def test_killed_offload(tmp_path: Path) -> None:
    def in_files() -> bool:
        return any(path.is_file() for path in tmp_path.glob(f"{nvme.PREFIX}*/**/*.swp"))

    assert killed_run(1.0, [*FILES, str(tmp_path)], tmp_path, in_files) == ""
