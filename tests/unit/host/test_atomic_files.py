"""A full disk is no mistake, wherever it is met: its exit code is not that of a wrong folder."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from longseq.errors import EXIT_NO_ROOM, EXIT_USER_ERROR, UserError
from longseq.host.atomic_files import new_folder, reason, unfinished


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, EXIT_NO_ROOM),
        (errno.EDQUOT, EXIT_NO_ROOM),
        (errno.EFBIG, EXIT_NO_ROOM),
        (errno.EACCES, EXIT_USER_ERROR),
    ],
)
def test_no_room_has_a_code_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    def ended(context: AbstractContextManager[Path]) -> tuple[int, str]:
        with pytest.raises(UserError) as caught, context:
            raise OSError(number, os.strerror(number))
        return caught.value.exit_code, str(caught.value)

    found, text = ended(new_folder(tmp_path / "out", "--output"))
    assert found == code
    assert text.startswith(f"--output {tmp_path / 'out'} cannot be written: ")
    assert list(tmp_path.iterdir()) == []

    def full(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", full)
    out, said = tmp_path / "out", reason(OSError(number, os.strerror(number)))
    contexts = new_folder(out, "--output"), unfinished(out, "--output")
    for context, start in zip(contexts, (tmp_path, f"--output {out}"), strict=True):
        found, text = ended(context)
        assert found == code
        assert text.startswith(f"{start}: {said}: ")


@pytest.mark.parametrize("whole", [True, False])
def test_a_folder_that_is_removed_meanwhile_is_named(tmp_path: Path, whole: bool) -> None:
    """In place of "No such file or directory", which is said of one that never was."""
    target = tmp_path / "folder" / "out"
    target.parent.mkdir()
    lost = []

    def write() -> None:
        with new_folder(target, "--output") as aside:
            lost.append(target.parent if whole else aside)
            shutil.rmtree(lost[0])
            (aside / "x").write_text("x")

    with pytest.raises(UserError) as caught:
        write()
    text = f"{lost[0]} is gone: it was removed or moved while this run used it"
    assert str(caught.value) == f"--output {target} cannot be written: {text}"


def test_a_new_folder_is_in_one_that_is_there(tmp_path: Path) -> None:
    """A misspelt name makes no folders, as it makes none for a file."""
    target = tmp_path / "no" / "out"
    with pytest.raises(UserError) as caught, new_folder(target, "FOLDER"):
        pass
    said = f"FOLDER {target}: there is no folder {target.parent}: make it first"
    assert str(caught.value) == said
    assert not target.parent.exists()
