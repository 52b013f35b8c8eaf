"""Which checkpoint is meant, and what is said where it is none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from longseq.errors import UserError
from longseq.upstream.converting.place import FIRST, step_of
from longseq.upstream.converting.theirs import Theirs
from tests.unit.upstream.converting.made import Made, fp32, write

NEWEST = "latest_checkpointed_iteration.txt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of three steps, the second one its newest."""
    folder = write(tmp_path / "its", fp32(Made()))
    for step in (4, 10):
        shutil.copytree(folder / "global_step3", folder / f"global_step{step}")
    (folder / "latest").write_text("global_step4\n")
    return folder


def test_the_newest_or_the_one_that_is_named(folder: Path) -> None:
    assert step_of(folder).name == "global_step4"
    assert step_of(folder / "global_step3").name == "global_step3"
    assert len(Theirs(folder / "global_step3").tensors(16)) == 84
    (folder / NEWEST).unlink()
    assert step_of(folder).name == "global_step4"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"global_step7", "names 'global_step7' as its newest checkpoint, which is not there: "),
        (b"empty", f"names 'empty' as its newest checkpoint, which has no {FIRST}: "),
        (b"../..", "which is not there: "),
        (b"", "names '' as its newest checkpoint, which is not there: "),
        (b"a\0b", "which is not there: "),
        (b"\xff\xfe", "latest, which names its newest checkpoint, cannot be read: it is no text: "),
    ],
)
def test_a_wrong_latest_is_told_with_the_steps_that_there_are(
    text: bytes, said: str, folder: Path
) -> None:
    (folder / "empty").mkdir()
    (folder / "latest").write_bytes(text)
    with pytest.raises(UserError) as caught:
        step_of(folder)
    steps = "steps there: global_step3, global_step4, global_step10; give one, as "
    assert str(folder / "latest") in str(caught.value)
    assert f"{said}{steps}{folder / 'global_step10'}" in str(caught.value)


def test_no_latest_and_no_steps(folder: Path, tmp_path: Path) -> None:
    (folder / "latest").unlink()
    with pytest.raises(
        UserError, match=r"cannot be read: No such file or dir.*: steps there: global"
    ):
        step_of(folder)
    (folder / "latest").mkdir()
    with pytest.raises(
        UserError, match=r"cannot be read: Is a directory: steps there: global_step3"
    ):
        step_of(folder)
    for step in (3, 4, 10):
        shutil.rmtree(folder / f"global_step{step}")
    with pytest.raises(UserError, match=r"Is a directory: no step is there$"):
        step_of(folder)
    (folder / NEWEST).unlink()
    for none in (folder, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=f"no checkpoint of Megatron-DeepSpeed .*no {FIRST}"):
            step_of(none)


def test_stage_3_is_told_by_its_files(folder: Path) -> None:
    """They are named otherwise."""
    path = folder / "global_step4" / FIRST
    path.rename(path.with_name(f"zero_pp_rank_0_{FIRST}"))
    with pytest.raises(UserError, match="global_step4 was saved at ZeRO stage 3"):
        Theirs(folder)
