"""Fixtures: the launch functions in a bash of their own, and a tree to launch from."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.shell import ARGS_SCRIPT, ROOT, SOURCES, Result, Tree, clean_env

# What a shell started beside itself is deaf to INT, and what nohup started to HUP, and so would be
# what the tests start and tell
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def bash(tmp_path: Path) -> Callable[..., Result]:
    """bash(script, *words, **env): runs a script with the launch functions at hand."""

    def run(script: str, *words: str, **env: str) -> Result:
        given = {"LONGSEQ_ROOT": str(ROOT), **env}
        return subprocess.run(
            ["/bin/bash", "-c", f"set -euo pipefail\n{SOURCES}{script}", "bash", *words],
            env=clean_env(tmp_path, given),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def arguments(bash: Callable[..., Result]) -> Callable[..., list[str]]:
    """arguments(*extra, device="cpu", devices=2, **env): the list that an environment makes."""

    def run(*extra: str, device: str = "cpu", devices: int = 2, **env: str) -> list[str]:
        result = bash(ARGS_SCRIPT, device, str(devices), *extra, **env)
        assert result.returncode == 0, result.stderr
        return result.stdout.split("\0")[:-1]

    return run


@pytest.fixture
def refusal(bash: Callable[..., Result]) -> Callable[..., str]:
    """refusal(…): the one line that an environment is refused with; asserts exit code 2."""

    def run(*extra: str, device: str = "cpu", devices: int = 2, **env: str) -> str:
        result = bash(ARGS_SCRIPT, device, str(devices), *extra, **env)
        assert result.returncode == 2, (result.returncode, result.stdout, result.stderr)
        lines = [line for line in result.stderr.splitlines() if ": note: " not in line]
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("longseq: ")
        assert result.stdout == ""
        return lines[0]

    return run


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    home = tmp_path / "home"
    home.mkdir()
    return Tree(tmp_path / "tree", home)
