"""The screen: plain lines where it is no terminal, a bar where it is, and all of it in the log."""

import io
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from longseq.config.checks import parse_config
from longseq.reports.format import duration, short
from longseq.run.screen import Screen, figures, lasting_interval, terminal_width
from longseq.run.summary import closing_rows

RECORD = {
    "iteration": 3,
    "lm_loss": 1.38629,
    "grad_norm": 0.5,
    "learning_rate": 1.5e-4,
    "iteration_time": 0.25,
    "tokens_per_sec": 12345.0,
    "tflops": 0.1234,
    "model_tflops": 0.1,
    "peak_memory_gib": 0.51,
}
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def test_figures_have_units() -> None:
    assert figures(RECORD) == [
        "loss 1.3863",
        "grad norm 0.5",
        "lr 0.00015",
        "0.25 s",
        "12.3k tokens/s",
        "0.123 TFLOPS (0.1 model)",
        "0.51 GiB",
    ]
    assert figures({"iteration": 1, "validation_loss": 1.25}) == ["validation 1.2500"]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999.4, "999"), (999.6, "1k"), (12345, "12.3k"), (2.5e6, "2.5M")]
)
def test_short(number: float, text: str) -> None:
    assert short(number) == text


def test_duration() -> None:
    assert (duration(0), duration(59.6), duration(3661)) == ("0:00:00", "0:01:00", "1:01:01")


def shown(
    capsys: pytest.CaptureFixture[str], rank: int, width: int | None, interval: int = 2
) -> str:
    screen = Screen(rank=rank, total=5, log_interval=interval, width=width)
    screen.opening("run", [("model", "4 layers [red]"), ("layout", "/" + "x" * 300)])
    for number in range(1, 6):
        more = {"validation_loss": 1.25} if number == 3 else {}
        screen.iteration({**RECORD, "iteration": number, **more})
    screen.warn("careful [bold]")
    screen.closing("done", [("everything", "here")])
    screen.close()
    return capsys.readouterr().out


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, 0, None)
    assert not CONTROL.search(out)
    lines = out.splitlines()
    assert lines[:3] == ["run", "  model   4 layers [red]", "  layout  /" + "x" * 300]
    numbers = [line.split()[1] for line in lines if line.startswith("iteration ")]
    assert numbers == ["2/5", "3/5", "4/5", "5/5"]  # each second, the last, and a validation
    assert "loss 1.3863 | validation 1.2500" in lines[4]
    assert lines[-3:] == ["warning: careful [bold]", "done", "  everything  here"]


def seen(out: str, width: int) -> list[str]:
    """What a terminal of `width` columns keeps of `out`; fails where a line is wider."""
    lines, row = [""], 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", out):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif re.fullmatch(r"\x1b\[\d*A", part):
            row -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b") and part != "\r":
            assert len(lines[row] + part) <= width, lines[row] + part
            lines[row] += part
    return [line.rstrip() for line in lines]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_terminal_of_any_width(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    """One updating line with bar, count and time left, and lines that stay."""
    screen = Screen(rank=0, total=300, width=width)
    screen.opening("run", [("model", "4 layers [red]"), ("layout", "/" + "x" * 300)])
    for number in range(1, 238):
        more = {"validation_loss": 1.25} if number == 130 else {}
        screen.iteration({**RECORD, "iteration": number, **more})
        if number == 90:
            screen.warn("careful [bold] " + "words " * 40)
            screen.note("checkpoint of iteration 90 saved in 1.0 s")
    out = capsys.readouterr().out
    assert "\x1b[?25l" in out
    lines = seen(out, width)
    *kept, last = [line for line in lines if line]
    assert last.startswith("━" * 13 + "╌" * 3 + "  237/300  0:00:0")
    assert " left  loss 1.3863" in last
    numbers = [line.split()[1] for line in kept if line.startswith("iteration ")]
    assert numbers == [f"{n}/300" for n in (20, 40, 60, 80, 100, 120, 130, 140, 160, 180, 200, 220)]
    assert all("loss 1.3863" in line for line in kept if line.startswith("iteration "))
    assert kept[0] == "run"
    assert "  model   4 layers [red]" in kept
    assert "".join(kept).count("x") == 300
    assert any(line.startswith("warning: careful [bold]") for line in kept)
    assert "checkpoint of iteration 90 saved in 1.0 s" in kept
    screen.closing("done", [("everything", "here")])
    ended = out + capsys.readouterr().out
    assert seen(ended, width)[-3:] == ["done", "  everything  here", ""]
    assert ended.count("\x1b[?25l") == ended.count("\x1b[?25h") == 1  # the cursor comes back


@pytest.mark.parametrize(
    ("iterations", "interval"), [(1, 1), (20, 1), (21, 2), (300, 20), (1000, 50), (320_000, 20_000)]
)
def test_about_twenty_lines_stay(iterations: int, interval: int) -> None:
    assert lasting_interval(iterations) == interval


def test_other_ranks_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, 1, 100) == ""


def test_log_has_what_the_screen_has(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        shown(capsys, 1, None)
    assert "  model: 4 layers [red]" in caplog.messages
    assert sum(message.startswith("iteration ") for message in caplog.messages) == 4


@pytest.mark.parametrize(("value", "width"), [("120", 120), ("", None), ("x", None), ("0", None)])
def test_width_comes_from_the_launcher(
    value: str, width: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert terminal_width({"LONGSEQ_TERMINAL": value}) == width


FAIL = """
import sys, warnings, logging
from pathlib import Path
from longseq.run.screen import open_log
open_log(Path(sys.argv[1]), 3)
warnings.warn("old thing")
logging.getLogger("DeepSpeed").warning("chatter")
raise RuntimeError("boom")
"""


def test_log_keeps_warnings_libraries_and_the_traceback(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FAIL, str(tmp_path)], capture_output=True, text=True, check=False
    )
    log = (tmp_path / "log" / "rank3.log").read_text()
    assert done.returncode == 1
    assert done.stdout == ""
    assert "RuntimeError: boom" in done.stderr
    assert "old thing" not in done.stderr
    for text in ("old thing", "chatter", "failed on", "RuntimeError: boom"):
        assert text in log


def test_a_full_disk_of_the_log_and_of_the_ranks_words_is_no_failure(tmp_path: Path) -> None:
    code = f"""if True:
        import logging, os
        from pathlib import Path
        from longseq.run.screen import open_log
        open_log(Path({str(tmp_path)!r}), 1)
        logging.warning("lost")
        os._exit(7)"""
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "rank1.log").symlink_to("/dev/full")
    with open("/dev/full", "w") as full:
        assert subprocess.run([sys.executable, "-c", code], stderr=full).returncode == 7


@pytest.mark.parametrize("name", ["plain", "sp ace", "it's a $x", 'a "b"; c*'])
def test_how_to_go_on_can_be_pasted(name: str) -> None:
    folder = f"/tmp/{name}/run/checkpoints"
    config = parse_config(["--device", "cpu", "--lr", "0.01", "--save", folder], 1)
    (said,) = (
        str(value)
        for row, value in closing_rows(config, {}, [], None, Path(folder), 75)
        if row == "go on with"
    )
    done = subprocess.run(
        ["/bin/bash", "-c", f'{said}\nprintf %s "$LOAD"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (folder, "")
    assert name != "plain" or said == f"LOAD={folder}"
