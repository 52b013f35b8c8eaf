"""tests/gpu/run.sh: shares of the time, what is kept, what is run again, what is called wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.gpu import against_cpu, all, attention, beside, page
from tests.gpu.repeat import Run, first_difference
from tests.gpu.results import CUT_OFF, FAULTY, Results, step_options
from tests.gpu.steps import STEPS, Step
from tests.gpu.training import Found, largest_difference

ROOT = Path(__file__).parents[3]
ONE, TWO = Step("kernels", "one", 30, 100), Step("repeat", "two", 60, 200)


def machine(**more: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "code": "c0de",
        "gpu": "NVIDIA H100",
        "gpus": [],
        "commit": None,
        "packages": {},
    }
    return found | {"time": "2026-11-26T01:00:00", "cpu": {"model": "EPYC"}} | more


@pytest.mark.parametrize(
    ("left", "limit"),
    [
        (1000, 100),  # all that it may have
        (130, 70),  # what leaves the later step its least
        (70, 30),  # its own least goes before the later step's
        (20, 0),  # not begun
    ],
)
def test_a_step_leaves_time_for_those_after_it(left: float, limit: float) -> None:
    assert all.limit_of(ONE, left, [TWO]) == limit


def test_what_is_finished_stays_and_other_code_goes_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all, "this_machine", machine)
    folder = tmp_path / "out"
    record = all.Record(folder)
    Results(record.rows_of(ONE)).row("a", "ok", ms=1.5)
    record.keep(ONE, True, 10.0)
    record.keep(TWO, False, 5.0, "cut off after 5 s; it goes on at the next call")
    record.keep(TWO, False, 4.0)
    again = all.Record(folder)
    assert [again.is_finished(step) for step in (ONE, TWO)] == [True, False]
    assert again.steps["kernels"]["rows"] == [{"what": "a", "verdict": "ok", "ms": 1.5}]
    assert again.steps["repeat"]["seconds"] == 9.0
    monkeypatch.setattr(all, "this_machine", lambda: machine(code="other"))
    other = all.Record(folder)
    assert not other.is_finished(ONE)
    assert not other.rows_of(ONE).exists()
    assert (tmp_path / "out-2026-11-26T01:00:00" / "kernels.json").exists()


def test_what_was_found_before_the_command_is_told_to_end_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watched(*_: object) -> int:
        Results(record.rows_of(ONE)).row("a", "ok")
        sys.exit(128 + signal.SIGTERM)

    monkeypatch.setattr(all, "this_machine", machine)
    monkeypatch.setattr(all, "watched", watched)
    record = all.Record(tmp_path)
    with pytest.raises(SystemExit):
        all.run(ONE, record, 60.0, cuda=True)
    kept = all.Record(tmp_path).steps["kernels"]
    assert (kept["finished"], kept["rows"]) == (False, [{"what": "a", "verdict": "ok"}])
    assert kept["why"].startswith("cut off")


@pytest.mark.parametrize(
    ("verdict", "why", "code"),
    [
        ("ok", "", 0),
        ("out of memory", "", 0),
        ("wrong", "", 1),
        ("ok", "ended with exit code 9", 1),
    ],
)
def test_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: str, why: str, code: int
) -> None:
    monkeypatch.setattr(all, "this_machine", machine)
    record = all.Record(tmp_path)
    Results(record.rows_of(ONE)).row("a", verdict)
    record.keep(ONE, True, 1.0, why)
    assert record.exit_code == code


def test_a_step_that_does_not_end_is_ended_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all, "GRACE", 0.2)
    note, log = tmp_path / "pid", tmp_path / "log"
    script = f"trap '' TERM; sleep 60 & echo $! >'{note}'; echo begun; wait; wait"
    assert all.watched(["/bin/bash", "-c", script], log, 2) == -signal.SIGKILL
    assert log.read_text() == "begun\n"
    state = Path(f"/proc/{note.read_text().strip()}/stat")
    end = time.monotonic() + 10  # killed, it still has to be given its last moment
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(("code", "finished"), [(0, True), (FAULTY, True), (1, False)])
def test_a_step_that_breaks_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, finished: bool
) -> None:
    """1 is what Python ends with after a traceback."""
    monkeypatch.setattr(all, "this_machine", machine)
    monkeypatch.setattr(all, "watched", lambda *_: code)
    record = all.Record(tmp_path)
    all.run(ONE, record, 60.0, cuda=True)
    assert record.is_finished(ONE) is finished
    assert record.exit_code == int(not finished)


def test_steps_side_by_side_end_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both run at once: each waits for the other's file. A signal then ends both."""
    watched, begun = all.watched, threading.Event()

    def with_each_other(command: list[str], log: Path, limit: float) -> int:
        other = tmp_path / ("repeat.begun" if log.stem == "kernels" else "kernels.begun")
        script = f"touch '{log.with_suffix('.begun')}'; until [ -e '{other}' ]; do sleep 0.05; done"
        script += "; exec sleep 60"
        return watched(["/bin/bash", "-c", script], log, limit)

    def interrupt() -> None:
        while len(list(tmp_path.glob("*.begun"))) < 2 and not begun.wait(0.05):
            pass
        os.kill(os.getpid(), signal.SIGUSR1)

    monkeypatch.setattr(all, "this_machine", machine)
    monkeypatch.setattr(all, "watched", with_each_other)
    before = signal.signal(signal.SIGUSR1, lambda *_: sys.exit(1))
    record = all.Record(tmp_path)
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(SystemExit):
            all.side_by_side([ONE, TWO], record, [60.0, 60.0])
    finally:
        begun.set()
        signal.signal(signal.SIGUSR1, before)
    assert not all.running
    whys = [record.steps[step.name]["why"] for step in (ONE, TWO)]
    assert [why.split(" after")[0] for why in whys] == ["cut off", "cut off"]


def test_a_step_whose_time_runs_out_is_no_failure(tmp_path: Path) -> None:
    options = step_options(None, ["--within", "0.05", "--out", str(tmp_path / "rows")])
    results = Results(options.out)
    with pytest.raises(SystemExit) as ended, results.kept("slow"):
        time.sleep(10)
    assert ended.value.code == CUT_OFF
    assert not results.has("slow")


EXACT = Found([4.0, 2.0], [1.0, 1.0])


@pytest.mark.parametrize(
    ("name", "mine", "verdict"),
    [
        ("plain", Found([4.0, 2.0001], [1.0, 1.0]), "ok"),
        ("plain", Found([4.0, 2.001], [1.0, 1.0]), "wrong"),
        ("plain", Found([4.0, 2.0], [1.0, 1.001]), "wrong"),
        ("plain", Found([4.0, float("nan")], [1.0, 1.0]), "wrong"),
        ("plain", Found([4.0], [1.0]), "wrong"),  # a step is missing
        ("bf16", Found([4.0, 2.019], [1.0, 1.0]), "ok"),  # twice what the CPU's bf16 makes
        ("bf16", Found([4.0, 2.021], [1.0, 1.0]), "wrong"),
        ("fp16", Found([4.0, 2.0], [1.0, 1.0], skipped=3), "ok"),
        ("fp16", Found([4.0, 2.0], [1.0, 1.0]), "wrong"),  # nothing was left out
    ],
)
def test_against_the_cpu(name: str, mine: Found, verdict: str) -> None:
    results = Results(None)
    against_cpu.compare(results, name, mine, [EXACT, Found([4.0, 2.01], [1.0, 1.0])])
    assert results.rows[0]["verdict"] == verdict


def test_the_largest_difference_is_relative() -> None:
    assert largest_difference([1.0, 220.0], [1.0, 200.0]) == pytest.approx(0.1)


def test_where_two_runs_part() -> None:
    steps = tuple((float(number), 1.0) for number in range(8))
    whole = Run(steps, ("t",))
    assert first_difference(Run(steps[4:], ("t",)), whole) == ""
    assert first_difference(Run(steps[4:], ("u",)), whole) == "the last tensors differ"
    other = Run(((4.0, 1.0), (5.5, 1.0), *steps[6:]), ("t",))
    assert first_difference(other, whole) == "step 6 is (5.5, 1.0) and (5.0, 1.0)"


def test_the_page_shows_what_a_gpu_has_run_and_nothing_else() -> None:
    row = {"what": "a|b", "verdict": "ok", "ms": 1.23456}
    kept = {"shows": "", "finished": True, "seconds": 9.0, "why": "", "rows": [row]}
    on_cpu = {"machine": machine(gpu=""), "steps": {"kernels": kept, "repeat": kept}}
    on_gpu = {"machine": machine(), "steps": {"kernels": kept}}
    text = page.page([on_gpu, on_cpu])
    assert text.count(page.UNSEEN) == len(STEPS) - 1
    assert "| what | ms | verdict |\n|---|---|---|\n| a\\|b | 1.235 | ok |\n" in text
    assert "NVIDIA H100; torch ?; DeepSpeed ?; 2026-11-26; code c0de; 9 s." in text
    assert page.page([]).count(page.UNSEEN) == len(STEPS)


def test_a_ratio_stands_beside_what_it_is_of() -> None:
    """A later run has the row of ours alone: the earlier one's stays, where others refer to it."""
    ours = {"what": "ours 64", "verdict": "ok", "tokens": 64, "seconds": 2.0}
    plain = {"what": "plain 64", "verdict": "ok", "tokens": 64, "seconds": 3.0, "ratio": 1.5}
    found = [
        {"machine": machine(), "steps": {"beside": {"seconds": 9.0, "why": "", "rows": rows}}}
        for rows in ([ours, plain, ours | {"what": "ours 8"}], [ours, ours | {"what": "ours 8"}])
    ]
    text = page.page(found)
    head = "| what | tokens | seconds | ratio | verdict |\n|---|---|---|---|---|\n"
    assert f"{head}| ours 64 | 64 | 2 |  | ok |\n| plain 64 | 64 | 3 | 1.5 | ok |\n\n" in text
    assert "`ratio`: seconds over ours" in text


def test_the_page_in_docs_is_of_the_results_that_are_kept() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(page.kept())


def test_a_gpus_results_are_kept_and_a_cpus_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "PAGE", tmp_path / "gpu.md")
    monkeypatch.setattr(page, "MEASURED", tmp_path / "measured")
    folder = tmp_path / "out"
    folder.mkdir()
    row = {"what": "a", "verdict": "ok"}
    kept = {"shows": "", "finished": True, "seconds": 9.0, "why": "", "rows": [row]}
    for gpu in ("", "NVIDIA H100 80GB HBM3"):
        result = {"machine": machine(gpu=gpu), "steps": {"kernels": kept}}
        (folder / "results.json").write_text(json.dumps(result))
        page.keep(folder)
        assert page.PAGE.exists() == bool(gpu)
    assert page.kept() == [result]
    assert [path.name for path in page.MEASURED.iterdir()] == ["h100-80gb-hbm3-c0de"]
    assert "| a | ok |" in page.PAGE.read_text(encoding="utf-8")


def test_each_step_is_a_module_with_the_options_of_a_step() -> None:
    for step in STEPS:
        assert find_spec(step.program), step.name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--wheels", "/nowhere"], "--wheels /nowhere: give a folder of wheels"),
        (["--steps"], "--steps needs a value"),
        (["--fast"], "unknown argument --fast"),
    ],
)
def test_wrong_words(words: list[str], said: str) -> None:
    command = [str(ROOT / "tests/gpu/run.sh"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"longseq: {said}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"), [(["--steps", "a"], "no step 'a'"), (["--within", "0"], "'0' is no time")]
)
def test_wrong_values(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        all.main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_reason_is_shown_once() -> None:
    absent = [{"what": f"v1 {n}", "verdict": "not run", "why": "not installed"} for n in range(2)]
    wrong = [{"what": f"v2 {n}", "verdict": "wrong", "why": "far off"} for n in range(2)]
    lines = list(page.rows_table(absent + wrong))[2:]
    assert [line.split(" | ")[0] for line in lines] == ["| v1 0", "| v2 0", "| v2 1"]


@pytest.mark.parametrize("limit", range(7))
def test_the_longest_that_fits(limit: int) -> None:
    tried: list[int] = []

    def fits(tokens: int) -> bool:
        tried.append(tokens)
        return tokens <= 10 * limit

    assert beside.most((10, 20, 30, 40, 50), fits) == min(10 * limit, 50)
    assert len(tried) <= 3


@pytest.mark.parametrize(("rate", "verdict"), [(96.0, "ok"), (94.0, "wrong")])
def test_the_best_kernel_is_nearly_the_fastest(rate: float, verdict: str) -> None:
    case, results = attention.TINY[0], Results(None)
    for name, found in (("sdpa", rate), ("v4", 100.0)):
        results.row(f"{case}, {name}", "ok", TFLOPS=found)
    results.row(f"{attention.TINY[1]}, v4", "ok", TFLOPS=1000.0)  # of another case
    attention.judge(results, case, "cpu")
    last = results.rows[-1]
    assert (last["verdict"], last["why"]) == (
        verdict,
        "sdpa" if verdict == "ok" else "sdpa, not v4",
    )
