"""What a look at a run shows, from its files alone."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import time
from pathlib import Path

import pytest

from longseq.__main__ import main
from longseq.config.checks import parse_config
from longseq.errors import UserError
from longseq.reports.compare import COLUMNS, row
from longseq.reports.live.status import status
from longseq.reports.live.watch import TAIL, frame, look, sparkline
from longseq.reports.page import cards
from longseq.reports.runs import read_run
from longseq.run.safety.failure import record_failure
from longseq.run.safety.stopping import Stopper
from longseq.run.safety.watch import Watch
from longseq.run.summary import closing_rows
from longseq.training.losses import Losses


def make_run(folder: Path, count: int = 40, status: str = "running") -> Path:
    (folder / "log").mkdir(parents=True)
    records = [
        {"iteration": n, "lm_loss": 3 - n / 20, "iteration_time": 2.0, "tokens_per_sec": 2048.0}
        for n in range(1, count + 1)
    ]
    records[-1]["validation_loss"] = 1.5
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records) + '{"it')
    settings = {"training": {"train_iters": 100}}
    (folder / "summary.json").write_text(json.dumps({"status": status, "settings": settings}))
    (folder / "log" / "rank0.log").write_text(
        "2026-11-26 00:45:10,123 INFO longseq: fine\n"
        + "".join(f"2026-11-26 00:45:1{n},000 WARNING longseq: spike {n}\n" for n in range(5))
    )
    return folder


def test_progress_time_left_losses_and_the_last_warnings(tmp_path: Path) -> None:
    lines = frame(look(make_run(tmp_path / "run")), 100)
    assert lines[0] == "run"
    assert lines[1].endswith("40/100  running, 0:02:00 left")
    assert lines[1].count("━") == round(24 * 0.4)
    assert lines[2].startswith("last step 2 s  2.05k tokens/s")
    assert lines[3].startswith("loss      1.4750, mean of 20  validation 1.5000  █")
    assert lines[4:] == [f"warning   00:45:1{n} spike {n}" for n in (2, 3, 4)]


def test_the_speed_of_the_last_step_is_whole_on_a_usual_terminal(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 1)
    figures = {"iteration_time": 0.0342, "tokens_per_sec": 123456.0, "tflops": 0.0123}
    record = {"iteration": 1, "lm_loss": 2.0, "peak_memory_gib": 123.456, **figures}
    (run / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    line = frame(look(run), 80)[2]
    assert line == "last step 0.0342 s  123k tokens/s  0.0123 TFLOPS  123.46 GiB"


def test_the_loss_is_the_mean_of_no_more_than_there_are(tmp_path: Path) -> None:
    """As the page and the run's end tell it."""
    run = make_run(tmp_path / "run", 3)
    assert frame(look(run), 80)[3].startswith("loss      2.9000, mean of 3  validation")
    assert cards(read_run(run))[0] == ("2.9000", "training loss, mean of 3 iterations")


def test_one_training_loss_for_a_chain(tmp_path: Path) -> None:
    """Of the last 20 iterations of the training: the end, watch, page and table say the same. Left
    out are those without a loss: it is no number, or 0 as no label counted.
    """
    first = make_run(tmp_path / "first", 30) / "metrics.jsonl"
    empty = {"iteration": 24, "lm_loss": 0.0, "grad_norm": 0.0}
    lines = [*first.read_text().splitlines()[:23], json.dumps(empty)]
    first.write_text("\n".join(lines) + "\n")
    run, load = make_run(tmp_path / "second", 4), str(tmp_path / "first" / "checkpoints")
    values = [2.0, None, 1.5, *[0.0] * 30, 1.0]
    records = [{"iteration": 25 + n, "lm_loss": value} for n, value in enumerate(values)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    summary = json.loads((run / "summary.json").read_text())
    summary["settings"]["run"] = {"load": load}
    (run / "summary.json").write_text(json.dumps(summary))
    expected = (sum(3 - n / 20 for n in range(7, 24)) + 2.0 + 1.5 + 1.0) / 20
    losses = Losses(24)
    for value in [*values, 9.0, 9.0]:
        losses.add(math.nan if value is None else value)
    losses.go_back(24 + len(values))
    config = parse_config(["--num-layers", "2", "--load", load], 1)
    end = closing_rows(config, {}, losses.recent(config), None, None, 0)
    assert end == [("training loss", f"{expected:.4f}, mean of 20 iterations")]
    assert frame(look(run), 80)[3].startswith(f"loss      {expected:.4f}, mean of 20 ")
    assert cards(read_run(run))[0] == (f"{expected:.4f}", "training loss, mean of 20 iterations")
    assert row(read_run(run))[COLUMNS.index("training loss")] == f"{expected:.4f}"


def test_where_no_label_ever_counted_there_is_no_loss(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 1)
    record = {"iteration": 1, "lm_loss": 0.0}
    (run / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    assert not any(line.startswith("loss") for line in frame(look(run), 80))
    assert cards(read_run(run))[0][0] != "0.0000"


def test_to_go_back_past_the_begin_of_a_run() -> None:
    losses = Losses(24)
    losses.add(1.0)
    losses.go_back(20)
    losses.add(2.0)
    assert (losses.start, list(losses.own)) == (20, [2.0])


@pytest.mark.parametrize("width", [20, 60, 80, 120])
def test_no_line_is_wider_than_the_screen(tmp_path: Path, width: int) -> None:
    assert max(map(len, frame(look(make_run(tmp_path / "run")), width))) <= width


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (-600, "nothing new for 0:10:00: ended or hung"),
        (600, "dated 0:10:00 ahead of this clock: running, ended or hung"),
    ],
)
def test_a_run_that_says_nothing_any_more_is_told(tmp_path: Path, ahead: int, said: str) -> None:
    """Nor is it news for ever what is dated in the future."""
    run = make_run(tmp_path / "run")
    then = time.time() + ahead + 0.4  # a look takes a moment
    os.utime(run / "metrics.jsonl", (then, then))
    lines = frame(look(run), 80)
    assert lines[1].endswith("40/100  running")
    assert lines[2].strip() == said
    os.utime(run / "metrics.jsonl", (time.time() + 20,) * 2)  # hosts' clocks differ a little
    assert frame(look(run), 60)[1].endswith("running, 0:02:00 left")


def test_why_a_run_failed_is_told_whole(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", status="failed")
    summary = json.loads((run / "summary.json").read_text())
    reason = "the loss is nan in iteration 4, samples 3 to 3; its update was left out"
    (run / "summary.json").write_text(json.dumps(summary | {"reason": reason}))
    lines = frame(look(run), 60)
    assert max(map(len, lines)) <= 60
    first = next(n for n, line in enumerate(lines) if line.startswith("why       "))
    assert " ".join(" ".join(lines[first:]).split()) == f"why {reason}"


KILLED = "1790000000.5\nalpha\n137\n0\nlongseq: a rank was killed\n"
LOST = (
    "1790000000.1\nbeta\n1\n1\nTraceback (most recent call last):\n  x\nError: connection reset\n"
)


@pytest.mark.parametrize(
    ("files", "status", "why"),
    [
        ({"failed-0.txt": LOST, "failed-1.txt": KILLED}, "failed", "a rank was killed"),
        ({"failed-0.txt": LOST, "exit-code": "1\n"}, "failed", "Error: connection reset"),
        ({"failed-1.txt": "17900"}, "running, 0:02:00 left", ""),  # is being written
        ({"exit-code": "137\n"}, "failed", "exit code 137, and no rank said why"),
        ({"exit-code": "75\n"}, "stopped early", ""),
        ({"exit-code": "0\n"}, "done", ""),
        ({"exit-code": "73\n", "failed-0.txt": ""}, "failed", "no room on its disk"),
        ({"exit-code": "", "failed-0.txt": ""}, "failed", "no room on its disk"),
    ],
)
def test_a_run_whose_ranks_were_killed_does_not_run(
    tmp_path: Path, files: dict[str, str], status: str, why: str
) -> None:
    """Their summary says that it runs; the launcher, and who stood beside them, know better."""
    run = make_run(tmp_path / "run")
    for name, text in files.items():
        (run / "log" / name).write_text(text)
    lines = frame(look(run), 500)
    assert lines[1].endswith(f"40/100  {status}")
    assert (why in lines[-1]) if why else "why" not in "".join(lines)
    shutil.copytree(run, tmp_path / "copy")
    assert frame(look(tmp_path / "copy"), 500)[1] == lines[1]
    written = status if why or files.get("exit-code") else "running, or killed"
    assert read_run(run).status == written
    (run / "summary.json").write_text('{"status": "done"}')  # it has said so itself
    assert frame(look(run), 500)[1].endswith("done")


@pytest.mark.parametrize(("step", "status"), [(40, "stopped early"), (100, "done")])
def test_a_run_that_has_ended_without_a_summary_does_not_run(
    tmp_path: Path, step: int, status: str
) -> None:
    """Its folder was moved, say; the files it had open went on."""
    run = make_run(tmp_path / "run", step)
    watch = Watch(Stopper())
    watch.listen(run, 0, 1, 600.0)
    watch.at(step, "save")
    watch._give_a_sign()
    assert read_run(run).status == "running, or killed"
    assert not look(run).ended
    watch.end()
    assert read_run(run).status == status
    assert frame(look(run), 100)[1].endswith(f"{step}/100  {status}")
    assert look(run).ended
    record_failure(run, RuntimeError("it failed after all"))
    assert read_run(run).status == "failed"


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"failed-0.txt": LOST, "failed-1.txt": KILLED}, "a rank was killed"),
        ({"failed-0.txt": LOST, "exit-code": "137\n"}, "closed by peer"),  # as good as any
        ({"exit-code": "137\n"}, "closed by peer"),
    ],
)
def test_the_cause_is_told_though_who_lost_its_connection_spoke_first(
    tmp_path: Path, files: dict[str, str], why: str
) -> None:
    run = make_run(tmp_path / "run")
    record_failure(run, RuntimeError("closed by peer"))
    for name, text in files.items():
        (run / "log" / name).write_text(text)
    lines = frame(look(run), 500)
    assert lines[1].endswith("40/100  failed")
    assert lines[-1] == f"why       {why}"


def test_a_run_that_failed_before_it_began(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    assert frame(look(tmp_path), 80)[-1] == "has not begun: no iteration yet"
    (tmp_path / "log" / "failed-0.txt").write_text("1.0\nalpha\n2\n0\nlongseq: --seed: give 8\n")
    assert frame(look(tmp_path), 80)[1:] == [
        "failed: no iteration yet",
        "why       --seed: give 8",
    ]


def test_a_job_shows_its_newest_run_and_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "jobs" / "j"
    job.mkdir(parents=True)
    (job / "settings.sh").touch()
    (job / "jobs.txt").write_text("71\n72\n")
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    monkeypatch.setenv("PATH", "/nowhere")
    assert frame(look(job), 80) == ["j", "has not begun: no iteration yet"]
    monkeypatch.undo()
    # Also of a colleague's jobs
    squeue.write_text(
        "#!/bin/sh\ncase $* in *'-j 71,72 '*) echo '72|PENDING|Dependency|N/A' ;; esac\n"
    )
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{squeue.parent}:{os.environ['PATH']}")
    waiting = ["j", "queue     72  waits: Dependency", "has not begun: no iteration yet"]
    assert frame(look(job), 80) == waiting
    runs = [make_run(tmp_path / name, n) for name, n in (("a", 10), ("b", 20))]
    (job / "runs.txt").write_text("".join(f"{run}\0" for run in runs))
    lines = frame(look(job), 80)
    assert lines[0] == "b"
    assert "20/100" in lines[2]
    squeue.write_text("#!/bin/sh\necho 'no connection' >&2; exit 1\n")
    assert frame(look(job), 80)[1] == "queue     squeue: no connection"
    squeue.write_text("#!/bin/sh\n")
    assert frame(look(job), 80)[1] == "queue     in the queue no more"
    shutil.rmtree(runs[-1])
    with pytest.raises(UserError, match="the job's newest, is gone"):  # else it would wait for ever
        look(job)


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", '"much"', "[]", "null", "true", f"1{'0' * 400}"]
)
def test_what_is_no_number_is_left_out(tmp_path: Path, value: str) -> None:
    """A loss that is none, or a file that another program has written."""
    run = make_run(tmp_path / "run")
    keys = ("lm_loss", "validation_loss", "iteration_time", "tokens_per_sec", "tflops")
    record = ", ".join(f'"{key}": {value}' for key in keys)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(f'\n{{"iteration": 41, {record}}}\n')
    lines = frame(look(run), 100)
    assert lines[1].endswith("41/100  running, 0:01:58 left")
    assert lines[2].startswith("last step  s   tokens/s   TFLOPS")
    assert lines[3].startswith("loss      1.4750, mean of 20  validation 1.5000  █")
    assert "  loss 1.4750, mean of 20" in status(tmp_path, None)  # as watch tells it


@pytest.mark.parametrize("total", ['"ten"', "1e999", "NaN", "-3", "[1]", "true"])
def test_a_number_of_iterations_that_is_none_ends_no_look(tmp_path: Path, total: str) -> None:
    """Nor the list of all other runs."""
    run = make_run(tmp_path / "run")
    settings = f'{{"training": {{"train_iters": {total}}}}}'
    (run / "summary.json").write_text(f'{{"status": "running", "settings": {settings}}}')
    assert frame(look(run), 100)[1] == f"{'╌' * 24}  40/?  running"
    assert status(tmp_path, None)[1] == "  40/?  running"


def test_time_left_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "metrics.jsonl").write_text('{"iteration": 1, "iteration_time": 1e299}\n' * 3)
    settings = {"training": {"train_iters": 10**18}}
    (run / "summary.json").write_text(json.dumps({"status": "running", "settings": settings}))
    assert frame(look(run), 100)[1].endswith("1/1000000000000000000  running")


def test_losses_that_are_none_are_said(tmp_path: Path) -> None:
    """As the trainer writes them: null."""
    run = make_run(tmp_path / "run")
    records = "".join(f'\n{{"iteration": {n}, "lm_loss": null}}' for n in range(41, 51))
    with (run / "metrics.jsonl").open("a") as file:
        file.write(records)
    said = "no number in 10 of 50 iterations, since iteration 41"
    assert frame(look(run), 100)[4] == f"loss      {said}"
    assert f"  loss: {said}" in status(tmp_path, None)
    (run / "metrics.jsonl").write_text(records)
    assert frame(look(run), 40)[3:5] == [
        "loss      no number in 10 of 10",
        "          iterations, since iteration 41",
    ]


@pytest.mark.parametrize("lost", [False, True])
def test_the_line_of_a_long_run_is_of_all_of_it(tmp_path: Path, lost: bool) -> None:
    """From 3 down to 1 in its first half, then flat; of a file that is read in part."""
    run, count = make_run(tmp_path / "run", 1), 20_000
    values = [max(1.0, 3 - 4 * n / count) for n in range(count)]
    with (run / "metrics.jsonl").open("w") as file:
        for n, value in enumerate(values, 1):
            record = {"iteration": n, "lm_loss": None if lost else value, "more": "x" * 80}
            file.write(json.dumps(record) + "\n")
    assert (run / "metrics.jsonl").stat().st_size > 2 * TAIL
    *_, line = [text for text in frame(look(run), 120) if text.startswith("loss")]
    if lost:
        assert re.fullmatch(r"loss +no number in (.*) of the last \1 iterations, .* before", line)
        return
    blocks = line.split()[-1]
    places = [values[n * (count - 1) // (len(blocks) - 1)] for n in range(len(blocks))]
    expected = [round((value - 1) / 2 * 7) for value in places]
    drawn = ["▁▂▃▄▅▆▇█".index(block) for block in blocks]
    assert len(blocks) == 60
    assert max(abs(a - b) for a, b in zip(drawn, expected, strict=True)) <= 1


def test_a_sparkline_falls_as_the_loss_does() -> None:
    assert sparkline([3.0, 2.0, 1.0], 3) == "█▅▁"
    assert sparkline([1.0] * 9, 3) == "▁▁▁"
    assert len(sparkline([float(n) for n in range(1000)], 40)) <= 40
    assert sparkline([], 5) == ""


@pytest.mark.parametrize("verb", ["status", "watch"])
def test_no_name_and_no_terminal_ends_or_bends_a_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Names that move the cursor, or are no text; a terminal of 20 columns, of Latin-1 alone."""
    run = make_run(tmp_path / "wi\nth \x1b[31m colours \udcff")
    for encoding, mark in (("latin-1", "?"), ("utf-8", "…")):
        raw = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding))
        monkeypatch.setenv("COLUMNS", "20")
        assert main([verb, str(run if verb == "watch" else tmp_path)]) == 0
        lines = raw.getvalue().decode(encoding).splitlines()
        assert lines[0] == f"wi?th ?[31m colours{mark}"
        assert max(map(len, lines)) == 20
        assert all(line.isprintable() for line in lines)


def test_one_look_and_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(make_run(tmp_path / "run", status="done")), "--once"]) == 0
    assert "40/100  done\n" in capsys.readouterr().out
    for words in ([str(tmp_path / "no")], [str(tmp_path)], [str(tmp_path / "run"), "--every", "x"]):
        assert main(["watch", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_status_looks_where_runs_are_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ALCF/status.sh does: OUTPUT_DIR, else outputs/ beside the scripts, wherever one works."""
    make_run(tmp_path / "named" / "first")
    make_run(tmp_path / "usual" / "second")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("longseq.reports.live.status.OUTPUTS", tmp_path / "usual")
    for told, words, shown in (
        ("named", [], "first"),
        ("", [], "second"),
        ("named", ["usual"], "second"),
    ):
        monkeypatch.setenv("OUTPUT_DIR", told)
        assert main(["status", *words]) == 0
        assert capsys.readouterr().out.splitlines()[0] == shown
    monkeypatch.setenv("OUTPUT_DIR", "nowhere")
    assert main(["status"]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
    monkeypatch.setenv("OUTPUT_DIR", "")
    monkeypatch.setattr("longseq.reports.live.status.OUTPUTS", tmp_path / "none")
    assert main(["status"]) == 0
    assert capsys.readouterr().out.startswith("no job and no run yet in ")
