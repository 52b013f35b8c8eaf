"""The pinned checkout of Megatron-DeepSpeed, for tests that drive the real thing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ARCHIVES = ROOT.parent / "shared" / "upstream"


def upstream_checkout(folder: Path) -> Path:
    """What MEGATRON_DEEPSPEED_DIR names, or the archive unpacked into `folder`; else a skip."""
    if named := os.environ.get("MEGATRON_DEEPSPEED_DIR"):
        return Path(named)
    for archive in ARCHIVES.glob("Megatron-DeepSpeed-*.tar.gz"):
        (folder / "upstream").mkdir()
        # tarfile warns without a filter, and has none before 3.11.4
        subprocess.run(["tar", "-xzf", archive, "-C", folder / "upstream"], check=True)
        return next((folder / "upstream").iterdir())
    pytest.skip("neither MEGATRON_DEEPSPEED_DIR nor an archive of Megatron-DeepSpeed is there")
