"""The plan as a table, on terminals of several widths."""

import sys
import time
from pathlib import Path

import pytest

from longseq.errors import FullDisk, UserError
from longseq.planning.command import plan_of
from longseq.planning.gpus import node_of
from longseq.planning.show import draw, progress, table
from tests.full_disk import room_for

FLAGS = (
    "--num-layers 24 --hidden-size 2048 --num-attention-heads 16 --seq-length 65536 --bf16"
    " --ds-sequence-parallel-size 8 --use-flash-attn-v2"
).split()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    plan = plan_of(FLAGS, node_of("polaris"), 8, "50304")
    lines = table(plan, width).splitlines()
    assert max(map(len, lines)) <= min(width, 80)
    assert lines[0].startswith("fits: ")
    bars = {line[10:47].strip(): line.count("#") for line in lines if line[:1] == " "}
    most, next_one = bars["optimizer state, master weights"], bars["kept for backward"]
    kinds = plan.by_kind
    assert next_one / most == pytest.approx(kinds["activations"] / kinds["optimizer"], abs=0.1)


def test_a_search_says_on_a_terminal_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    tell = progress("--suggest")
    for done in range(5):
        tell(done, 4)
        now += 0.6
    said = [text.strip() for text in capsys.readouterr().err.split("\r")]
    assert [text for text in said if text] == ["--suggest: 2 of 4 layouts, about 0:00:01 left"]
    assert said[-2:] == ["", ""]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    progress("--suggest")(2, 4)
    assert capsys.readouterr().err == ""


def test_a_picture_without_room_or_folder(tmp_path: Path) -> None:
    plan = plan_of(FLAGS, node_of("polaris"), 8, "50304")
    with room_for(500), pytest.raises(FullDisk, match=r"--picture .*a\.svg cannot .*no space left"):
        draw(plan, tmp_path / "a.svg")
    with pytest.raises(UserError, match=r"none/a\.svg cannot be written: No such file") as caught:
        draw(plan, tmp_path / "none" / "a.svg")
    assert caught.value.exit_code == 2
