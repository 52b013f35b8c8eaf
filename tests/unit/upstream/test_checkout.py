"""Is a checkout the one that is known? Hashes are compared with git's own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from longseq.errors import UserError
from longseq.upstream.checkout import COMMIT, checked, content_hash
from tests.upstream_checkout import upstream_checkout


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_hash_is_gits(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "a").mkdir(parents=True)
    (package / "a.py").write_text("x = 1\n")  # "a.py" comes before "a/" in git, not by name
    (package / "a" / "run.sh").write_text("#!/bin/sh\n")
    (package / "a" / "run.sh").chmod(0o755)
    os.symlink("../a.py", package / "a" / "link.py")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "all")
    wanted = git(tmp_path, "rev-parse", "HEAD:package")
    (package / "a" / "__pycache__").mkdir()  # what a build and a run leave
    (package / "a" / "__pycache__" / "a.pyc").write_bytes(b"x")
    (package / "helpers.so").write_bytes(b"x")
    assert content_hash(package) == wanted
    assert content_hash(package / "a.py") == git(tmp_path, "rev-parse", "HEAD:package/a.py")
    (package / "a.py").write_text("x = 2\n")
    assert content_hash(package) != wanted


def test_no_checkout_and_another(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no megatron, so no checkout"):
        checked(tmp_path)
    (tmp_path / "megatron").mkdir()
    (tmp_path / "pretrain_gpt.py").touch()
    with pytest.raises(UserError) as raised:
        checked(tmp_path)
    text = str(raised.value)
    assert COMMIT in text
    assert "MEGATRON_DEEPSPEED_DIR" in text
    assert "\n" not in text


def test_the_pinned_one_is_known(tmp_path: Path) -> None:
    checked(upstream_checkout(tmp_path))
