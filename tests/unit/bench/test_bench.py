"""A bench: which cases there are, what became of each, what is kept, and the published forms."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longseq.__main__ import main
from longseq.bench import command, published, running, tables
from longseq.bench.case import Case, Layout, all_cases, in_order, read_layout
from longseq.bench.command import common, within
from longseq.bench.kept import FAILED, OK, OOM, REFUSED, TIMED_OUT, Kept, Result
from longseq.bench.longest import find_longest, planned_longest, span_of
from longseq.bench.pictures import draw, panels_of, write_page
from longseq.bench.running import How, judge, run_case
from longseq.bench.sweep import Clock, expect, sweep
from longseq.bench.tables import reach_table, speed_table, write_tables
from longseq.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED_EARLY, FullDisk, UserError
from longseq.host.variables import read_table
from longseq.run import environment

TP2 = Layout("tp", 2, tp=2)
REQUEST = {"steps": 3, "variables": {}}


def case(length: int, layout: Layout = TP2) -> Case:
    return Case("GPT_SMALL", "sdpa", layout, length)


def result(of: Case, outcome: str = OK, seconds: float | None = None, wall: float = 20) -> Result:
    speed = 2.0 if outcome == OK else None
    return Result(
        of.key, of.network, of.kernel, of.layout.name, of.layout.ranks, of.length, outcome,
        "" if outcome == OK else "why", seconds, speed, speed, speed, 0.5, wall_seconds=wall,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("family", "ranks", "name", "variables"),
    [
        ("tp", 4, "tp4", ("megatron", "4", "1", "1")),
        ("ulysses", 4, "ulysses4", ("ds", "1", "4", "1")),
        ("tp2xring", 4, "tp2 x ring2", ("megatron", "2", "1", "2")),
        ("ring2", 8, "ring2 x dp4", ("ring", "1", "1", "2")),
        ("dp", 2, "dp2", ("megatron", "1", "1", "1")),
        ("ring", 1, "1 rank", ("megatron", "1", "1", "1")),
    ],
)
def test_layouts(family: str, ranks: int, name: str, variables: tuple[str, ...]) -> None:
    layout = read_layout(family, ranks)
    assert layout is not None
    assert layout.name == name
    found = case(512, layout).variables()
    names = ("SP_TYPE", "MPSIZE", "SPSIZE", "RINGSIZE")
    assert tuple(found[name] for name in names) == variables
    assert (found["NGPUS"], found["SEQ_LEN"]) == (str(ranks), "512")


def test_what_is_no_layout_is_named() -> None:
    assert read_layout("tp3", 4) is None
    for wrong in ("", "tq", "tpxring", "tp2xtp", "tp0", "tp" + "9" * 5000):
        with pytest.raises(UserError, match="--layouts"):
            read_layout(wrong, 4)


def test_a_table_that_is_ended_early_has_gaps_and_no_missing_columns() -> None:
    lengths = [512 << n for n in range(8)]
    ring = Layout("ring", 2, ring=2)
    cases = in_order(all_cases(["n"], ["k"], [TP2, ring, TP2], [*lengths, 1026]))
    assert len(cases) == 8 * 2 + 1  # each once; a ring's sequences divide by 4
    order = list(dict.fromkeys(one.length for one in cases))
    assert order[:2] == [512, 8192 >> 1]
    assert {one.layout.name for one in cases[:2]} == {"tp2", "ring2"}


OUT = "longseq: out of memory in iteration 1: estimated 1 GiB"


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (0, "anything out of memory", (OK, "")),
        (None, "", (TIMED_OUT, "not done after 9 s")),
        (2, f"x\n{OUT}\n", (OOM, OUT)),
        (134, "terminate called after throwing an instance of 'std::bad_alloc'", (OOM, None)),
        (1, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", (OOM, None)),
        (1, "RuntimeError: CUDA error: out of memory", (OOM, None)),
        (1, "Cuda failure 2 'out of memory'", (OOM, None)),
        (1, "[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes", (OOM, None)),
        (137, "the host ran out of memory: since the start its kernel has ended", (OOM, None)),
        (2, "longseq: --lr 3: lower it\n", (REFUSED, "--lr 3: lower it")),
        # Advice is no end
        (
            2,
            "longseq: --lr 3: lower it if out of memory",
            (REFUSED, "--lr 3: lower it if out of memory"),
        ),
        (
            1,
            "warning: if out of memory lower MICRO_BATCH\nValueError: 3\n",
            (FAILED, "ValueError: 3"),
        ),
        (1, "Traceback\nValueError: 3\n", (FAILED, "ValueError: 3")),
        (1, "", (FAILED, "it printed nothing")),
    ],
)
def test_what_became_of_a_run(code: int | None, text: str, expected: tuple[str, str]) -> None:
    outcome, why = judge(code, text, 9)
    assert outcome == expected[0]
    assert expected[1] in (None, why)


def test_lengths_are_shown_as_they_are_given() -> None:
    given = ("512", "2k", "1000k", "1m", "16m")
    assert [tables.tokens(command.read_tokens(text)) for text in given] == list(given)
    assert tables.tokens(1500) == "1,500"


def test_results_outlive_a_kill_and_belong_to_one_request(tmp_path: Path) -> None:
    with Kept(tmp_path / "b", REQUEST) as kept:
        kept.add(result(case(512)))
        kept.add(result(case(1024), OOM))
        with pytest.raises(UserError, match="in use"), Kept(tmp_path / "b", REQUEST):
            pass
    with (tmp_path / "b" / "results.jsonl").open("a") as file:
        file.write('{"key": "cut sho')
    with Kept(tmp_path / "b", REQUEST) as kept:
        assert [(r.length, r.outcome) for r in kept.found.values()] == [(512, OK), (1024, OOM)]
        kept.add(result(case(2048)))
    with Kept(tmp_path / "b", REQUEST) as kept:
        assert len(kept.found) == 3
    with (
        pytest.raises(UserError, match="steps 3, and this one has 4"),
        Kept(tmp_path / "b", REQUEST | {"steps": 4}),
    ):
        pass


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    """Some of which may be called as a bench's are."""
    (tmp_path / "results.csv").write_text("mine")
    (tmp_path / "lock").write_text("mine too")
    with pytest.raises(UserError, match=r"--output .* holds results\.csv and is of no bench: name"):
        Kept(tmp_path, REQUEST).__enter__()
    assert (tmp_path / "lock").read_text() == "mine too"
    (tmp_path / "results.csv").unlink()
    with Kept(tmp_path, REQUEST):  # as one that was killed at its start leaves it
        pass


def test_the_next_job_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another node of the same kind, for another time; not on other GPUs, nor in another
    precision, nor after `git pull`.
    """
    how = How(tmp_path, 3, 0.0, [])
    a100 = ["NVIDIA A100-SXM4-40GB, 40960 MiB, 550.54"] * 4
    for name in read_table().ours:
        monkeypatch.delenv(name, raising=False)

    def ask(host: str, gpus: list[str], **variables: str) -> dict[str, object]:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "gethostname", lambda: host)
            patch.setattr(environment, "cpu_model", lambda: "AMD EPYC 7543P")
            patch.setattr(environment, "gpus", lambda: gpus)
            patch.setattr(environment, "git_state", lambda: state)
            patch.setattr(os, "cpu_count", lambda: 64)
            for name, value in variables.items():
                patch.setenv(name, value)
            return common(how)

    state: dict[str, Any] | None = {"id": "c37aac5" * 6, "changed_files": 0}
    first = ask("x3001", a100, WALLTIME="30m", QUEUE="debug", DTYPE="bf16")
    assert first["machine"] == ["64 x AMD EPYC 7543P", "4 x NVIDIA A100-SXM4-40GB, 40960 MiB"]
    assert first["variables"] == {"DTYPE": "bf16"}
    driver = [line.replace("550.54", "560.35") for line in a100]
    others = {"WALLTIME": "1h", "MASTER_PORT": "1234", "WANDB_MODE": "offline", "PLAN": "0"}
    assert ask("x3002", driver, DTYPE="bf16", **others) == first
    assert first["longseq"] == "c37aac5c37aa"
    assert ask("x3001", a100[:2], DTYPE="bf16") != first
    assert ask("x3001", a100, DTYPE="fp32") != first
    assert ask("x3001", a100, DTYPE="bf16", LAUNCH_ARGS="--bind-to none") != first
    state = {"id": "951712" * 7, "changed_files": 0}
    assert ask("x3001", a100, DTYPE="bf16") != first
    state = None  # no repository
    assert ask("x3001", a100, DTYPE="bf16") != first


def test_a_folder_is_for_one_commit_where_it_is_known(tmp_path: Path) -> None:
    """Of a folder of before it is not."""
    for commit in (None, "a" * 12, None):
        with Kept(tmp_path / "unknown", REQUEST | {"longseq": commit}):
            pass
    with Kept(tmp_path / "known", REQUEST | {"longseq": "a" * 12}):
        pass
    with pytest.raises(UserError, match=r"longseq 'a{12}', and this one has 'b{12}'"):
        Kept(tmp_path / "known", REQUEST | {"longseq": "b" * 12}).__enter__()


def run_sweep(
    folder: Path, cases: Iterable[Case], limit: int, within: float = 0
) -> tuple[list[int], Kept, bool]:
    """Lengths that were run: those above `limit` tokens run out of memory."""
    ran: list[int] = []

    def run(one: Case, _seconds: float) -> Result:
        ran.append(one.length)
        return result(one, OK if one.length <= limit else OOM, one.length / 512)

    with Kept(folder, REQUEST) as kept:
        whole = sweep(list(cases), kept, run, Clock(600, within), lambda _text: None)
    return ran, kept, whole


def test_what_is_known_is_not_run_again_nor_what_is_longer_than_too_long(tmp_path: Path) -> None:
    cases = [case(512 << n) for n in range(5)]
    assert run_sweep(tmp_path, cases[:2], 1024)[0] == [512, 1024]
    ran, kept, whole = run_sweep(tmp_path, cases, 1024)
    assert (ran, whole) == ([2048], True)
    assert kept.found[cases[2].key].outcome == OOM


def test_a_case_that_would_not_end_in_time_is_left_for_another_call(tmp_path: Path) -> None:
    cases = [case(512), case(65536), case(1024)]
    ran, _, whole = run_sweep(tmp_path, cases, 1 << 20, within=100)
    assert (ran, whole) == ([512, 1024], False)


def test_a_bench_in_a_job_ends_before_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    job = {"LONGSEQ_END_TIME": "4600"}
    assert within("", {}) == 0
    assert within("30m", {}) == 1800
    assert within("", job) == 3600 - 120  # for the tables
    assert within("30m", job) == 1800
    assert within("2h", job) == 3480
    assert within("", {"SLURM_JOB_END_TIME": "1100"}) == 80
    assert within("2h", {"WALLTIME": "0:10:00"}) == 480
    assert 0 < within("", {"LONGSEQ_END_TIME": "900"}) < 1  # over, and not for ever


def test_expected_time_grows_as_the_nearest_runs_did() -> None:
    assert expect(case(512), [], 4) is None
    one = [result(case(1024), OK, 1.0, wall=14.0)]
    assert expect(case(2048), one, 4) == pytest.approx(10 + 4 * 2)
    two = [*one, result(case(2048), OK, 4.0, wall=26.0)]
    assert expect(case(4096), two, 4) == pytest.approx(10 + 4 * 16)


@pytest.mark.parametrize("limit", [300, 512, 5000, 100_000, 131_072])
def test_the_longest_is_found_within_an_eighth(limit: int) -> None:
    found: list[Result] = []

    def try_one(one: Case) -> Result:
        found.append(result(one, OK if one.length <= limit else OOM))
        return found[-1]

    assert find_longest(case(512), 1 << 24, try_one)
    longest, beyond = span_of(found)
    assert longest <= limit < (longest or 512) * 1.13 + 512
    assert beyond is not None
    assert beyond.length > limit
    assert len(found) == len({one.length for one in found}) < 16
    assert not find_longest(case(512), 1 << 24, lambda _case: None)


def test_the_published_forms(tmp_path: Path) -> None:
    one = Layout("tp", 1)
    cases = [case(1024, one), case(1024), case(2048), case(4096)]
    results = [result(c, outcome) for c, outcome in zip(cases, (OK, OK, OK, OOM), strict=True)]
    table = speed_table(results)
    assert table.head == ["layout", "1k", "2k", "4k"]
    assert table.rows == [["1 rank", "2 (2)", "", ""], ["tp2", "2 (2)", "2 (2)", "OOM"]]
    reach = reach_table(results).rows
    assert reach[0] == ["1 rank", "1", "1,024", "", "0.50", "not tried"]
    assert reach[1] == ["tp2", "2", "2,048", "", "0.50", "4,096: out of memory"]
    rows, listed = write_tables(tmp_path, results)
    with rows.open() as lines:
        assert [row["outcome"] for row in csv.DictReader(lines)] == [OK, OK, OK, OOM]
    assert json.loads(listed.read_text())[3]["reason"] == "why"
    both = [panels_of(results, longest, None) for longest in (False, True)]
    pictures = [path for n, panels in enumerate(both) for path in draw(tmp_path, n == 1, panels)]
    assert [path.suffix for path in pictures] == [".svg", ".png"] * 2
    (tmp_path / "results.jsonl").write_text("")
    machine = {
        "longseq": "c37aac5c37aa",
        "arguments": [],
        "variables": {"A": "1", "B": "x"},
        "machine": ["2 x EPYC", "1 x T4"],
    }
    request = {"steps": 3, "memory_gib": 0.0, **machine}
    page = write_page(tmp_path, both[0] + both[1], [table], request).read_text()
    assert "<td>OOM</td>" in page
    assert page.count("data:image/svg+xml") == 2
    told = re.findall(r"<th scope=row>([^<]*)</th><td>([^<]*)</td></tr>\n*<", page)
    assert dict(told[-6:]) == {  # no word of Python
        "longseq": "c37aac5c37aa",
        "steps that count": "3, after one that does not",
        "memory of a rank": "what there is",
        "arguments behind --": "none",
        "variables": "A=1 B=x",
        "machine": "2 x EPYC, 1 x T4",
    }
    drawn = pictures[0].read_text()
    assert ">out of memory</text>" in drawn
    ready = panels_of(results[:3], False, None)
    assert "out of memory" not in draw(tmp_path, False, ready)[0].read_text()


def test_panels_stand_on_each_other_and_are_figures_of_the_page(tmp_path: Path) -> None:
    """Side by side their words were of five pixels."""
    curves: dict[bool, published.Curves] = {
        False: {published.AS_THEN: {2048: 9.0, 262144: None}, published.BEST: {2048: 99.0}},
        True: {published.BEST: {32: 4000, 64: 8000, 128: 16000}},
    }
    request = {
        "steps": 3,
        "memory_gib": 2.0,
        "arguments": ["--swiglu"],
        "variables": {},
        "longseq": None,
    }
    for longest in (False, True):
        measured = [result(case(1024)), result(case(2048), OOM)]
        panels = panels_of(measured, longest, curves[longest], 2.0)
        drawn = draw(tmp_path, longest, panels)[0].read_text()
        width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawn)[0])
        assert width < 360  # a letter of 8 points is of 8 pixels on a telephone
        assert height > 1.4 * width
        page = write_page(tmp_path, panels, [], request | {"machine": ["2 x EPYC"]}).read_text()
        titles = re.findall("<figcaption>([^<]*)<", page)
        assert titles[0] == "Measured here" + ", 2 GiB a rank" * longest
        assert titles[1].startswith("Published: 25B")
        assert "<td>--swiglu</td>" in page


def test_ours_is_planned_beside_the_published_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the tables are written; once, with a line a plan; each curve says what it is."""
    said: list[str] = []

    def plan(words: list[str], _most: float) -> object:
        assert (tmp_path / "results.csv").is_file()
        found = {"fits": "yes" if len(said) != 2 else "no", "tflops": 9.0, "tokens": 7000}
        return [found] if {"--suggest", "--longest"} & set(words) else found

    monkeypatch.setattr(published, "_plan", plan)
    write_tables(tmp_path, [result(case(1024))])
    (tmp_path / published.KEPT).write_text("[1]")  # no table of ours: made anew
    assert published.plan_missing(tmp_path, False, said.append)
    curves = published.known(tmp_path, False)
    assert list(curves) == [published.AS_THEN, published.BEST]
    assert list(curves[published.AS_THEN].values()) == [None] + [9.0] * 7
    assert "--no-published" in said[0]
    assert said[1:3] == [f"[{n}/16] {published.AS_THEN}: {n * 2048}" for n in (1, 2)]
    assert not published.plan_missing(tmp_path, False, pytest.fail)
    assert published.plan_missing(tmp_path, True, said.append)
    reach = published.known(tmp_path, True)
    assert reach == {published.BEST: dict.fromkeys((32, 64, 128), 7.0)}
    for longest, beside in ((False, curves), (True, reach)):
        panels = panels_of([result(case(1024))], longest, beside)
        picture = draw(tmp_path, longest, panels)[0]
        assert picture.read_text().count(published.BEST) == 1


def test_a_curve_of_2023_that_cannot_be_planned_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its reason in a line; so is what no time is left for."""
    said: list[str] = []

    def plan(words: list[str], _most: float) -> object:
        if "--suggest" not in words:
            raise subprocess.CalledProcessError(1, words, "", "one\nlongseq: no such thing\n")
        return [{"fits": "yes", "tflops": 9.0}]

    monkeypatch.setattr(published, "_plan", plan)
    times = iter([5.0, 4.0, 3.0, 0.0])
    assert published.plan_missing(tmp_path, False, said.append, lambda: next(times))
    assert published.known(tmp_path, False) == {published.BEST: {2048: 9.0, 4096: 9.0}}
    (failed,) = (line for line in said if "cannot be planned" in line)
    assert failed.startswith(f"{published.AS_THEN}: 2048 ")
    assert failed.endswith(": longseq: no such thing")
    assert "no time is left to plan 6 points" in said[-1]


@pytest.mark.parametrize("when", ["planned", "run"])
def test_a_bench_that_is_stopped_has_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], when: str
) -> None:
    """Also while 2023's runs are planned; none of them is begun after the end."""

    def stopped(*_: object) -> object:
        assert when == "planned"
        assert (tmp_path / "b" / "bench.html").is_file()
        raise KeyboardInterrupt

    def run(one: Case, *_: object) -> Result | None:
        return None if when == "run" and one.length > 512 else result(one, OK, 1.0)

    monkeypatch.setattr(running, "run_case", run)
    monkeypatch.setattr(published, "_plan", stopped)
    for name in read_table().ours:
        monkeypatch.delenv(name, raising=False)
    words = ["bench", "--lengths", "512", "2k", "--layouts", "dp", "--output", str(tmp_path / "b")]
    assert main(words) == EXIT_STOPPED_EARLY
    said = capsys.readouterr()
    assert said.err.endswith("bench: not all of it: the same command goes on\n")
    for name in ("tflops.svg", "tflops.png", "bench.html"):
        assert (tmp_path / "b" / name).is_file()
        assert said.out.count(f"{name}\n") == 1


def test_what_is_to_be_run_again_stays_until_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bench that runs failed cases again is stopped after one of two."""
    ran: list[str] = []

    def run(one: Case, *_: object) -> Result | None:
        ran.append(one.key)
        return None if len(ran) == 5 else result(one, OK if len(ran) in (1, 4) else FAILED, 1.0)

    monkeypatch.setattr(running, "run_case", run)
    for name in read_table().ours:
        monkeypatch.delenv(name, raising=False)
    words = ["bench", "--lengths", "512", "1k", "2k", "--layouts", "dp", "--no-published"]
    words += ["--output", str(tmp_path / "b")]
    assert main(words) == EXIT_DONE
    assert main([*words, "--again", "failed"]) == EXIT_STOPPED_EARLY
    assert ran[3:] == ran[1:3]
    with (tmp_path / "b/results.csv").open() as lines:
        assert [row["outcome"] for row in csv.DictReader(lines)] == [OK, OK, FAILED]


def test_slurms_notice_ends_the_cases_and_not_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bench that has ended by its own clock is at its tables when the notice comes."""

    def run(one: Case, *_: object) -> Result:
        if one.length > 512:
            os.kill(os.getpid(), signal.SIGUSR1)
        return result(one, OK, 1.0)

    def write(*words: Any) -> list[Path]:
        os.kill(os.getpid(), signal.SIGUSR1)
        return write_tables(*words)

    monkeypatch.setattr(running, "run_case", run)
    monkeypatch.setattr(tables, "write_tables", write)
    for name in read_table().ours:
        monkeypatch.delenv(name, raising=False)
    words = ["bench", "--lengths", "512", "2k", "--layouts", "dp", "--output", str(tmp_path / "b")]
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        assert main(words) == EXIT_STOPPED_EARLY
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert capsys.readouterr().out.count("bench.html\n") == 1
    assert len((tmp_path / "b/results.csv").read_text().splitlines()) == 2


def test_planned_is_where_the_estimate_reaches_the_limit(tmp_path: Path) -> None:
    """A tenth of a GiB, and one for each 1,024 tokens; the process held half a GiB before."""
    planned = {n: 0.1 + n / 1024 for n in (512, 1024, 1536)}
    results = [
        replace(result(case(n)), planned_gib=gib, measured_gib=gib + 0.2, peak_gib=gib + 0.7)
        for n, gib in planned.items()
    ]
    assert planned_longest(results, 3.6) == pytest.approx(3 * 1024, abs=1)
    assert planned_longest(results, 0) is None
    assert planned_longest(results[:1], 3.6) is None
    assert reach_table(results, 3.6).rows[0][2:4] == ["1,536", "3,072"]
    panels = panels_of(results, True, None, 3.6)
    assert draw(tmp_path, True, panels)[0].read_text().startswith("<?xml")
    assert panels[0][0] == "measured here, 3.6 GiB a rank"


def test_every_measurement_is_drawn() -> None:
    """Of many curves, of several networks on the same ranks, of products that are alike."""
    from matplotlib.figure import Figure

    layouts = [("tp", 1), *((name, n) for n in (2, 4, 8) for name in ("tp", "ulysses", "dp"))]
    known = [read_layout(*one) for one in (*layouts, ("tp2xring", 8), ("ring2xtp", 8))]
    cases = [
        Case(network, "sdpa", layout, 1024 * layout.ranks * scale)
        for network, scale in (("GPT_SMALL", 4), ("GPT125M", 1))
        for layout in known
        if layout
    ]
    results = [result(one) for one in cases]
    speed, reach = Figure().subplots(2, 1)
    for axes, longest in ((speed, False), (reach, True)):
        panels_of(results, longest, None)[0][1](axes)
    handles, names = speed.get_legend_handles_labels()
    assert len(names) == len(set(names)) == len(cases) == 24
    assert len({(line.get_color(), line.get_marker()) for line in handles}) == len(cases)
    lines = {
        str(line.get_label()): dict(zip(*line.get_data(), strict=True)) for line in reach.lines
    }
    for network, scale in (("GPT_SMALL", 4096), ("GPT125M", 1024)):
        for name in ("tp", "ulysses", "dp"):
            assert lines[f"{name}, {network}"] == {n: n * scale for n in (1, 2, 4, 8)}
        both = {name for name in lines if "ring" in name and network in name}
        assert both == {f"tp x ring, {network}", f"tp4 x ring2, {network}"}
        assert all(lines[name] == {1: scale, 8: 8 * scale} for name in both)


SCRIPT = """#!/bin/bash
printf '%s\\n' "$SEQ_LEN $NGPUS $TRAIN_ITERS $LONGSEQ_RANK_KIB $*"
[[ $SEQ_LEN != 999 ]] || sleep 60
[[ $SEQ_LEN != 777 ]] || { echo "longseq: --seq-length 777 is odd"; exit 2; }
mkdir -p "$OUTPUT_DIR/RUN"
for n in 1 2 3; do
    echo "{\\"iteration\\": $n, \\"iteration_time\\": $((10 - n)), \\"peak_memory_gib\\": 0.$n}"
done >"$OUTPUT_DIR/RUN/metrics.jsonl"
"""


def test_a_case_is_a_run_of_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "ALCF" / "train-gpt3.sh"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    script.chmod(0o755)
    monkeypatch.setattr(running, "ROOT", tmp_path)
    how = How(tmp_path / "b", 2, 1.5, ("--swiglu",))
    done = run_case(case(512), how, 30)
    assert done is not None
    assert (done.outcome, done.seconds, done.peak_gib) == (OK, 7.5, 0.3)
    said = (tmp_path / "b" / "log" / f"{done.key}.txt").read_text()
    assert said.startswith("512 2 3 1572864 -- --save")
    assert said.rstrip().endswith("--swiglu")
    odd, slow = run_case(case(777), how, 30), run_case(case(999), how, 0.3)
    assert odd is not None
    assert slow is not None
    assert (odd.outcome, odd.reason) == (REFUSED, "--seq-length 777 is odd")
    assert slow.outcome == TIMED_OUT


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lengths", "5q"], "--lengths 5q"),
        (["--ranks", "0"], "--ranks '0'"),
        (["--ranks", "9" * 5000], "is not a whole number from 1"),
        (["--ranks", "3", "--layouts", "tp2"], "no layout"),
        (["--timeout", "soon"], "--timeout 'soon'"),
        (["--timeout", "0"], "--timeout '0'"),
        (["--within", "0m"], "--within '0m'"),
        (["--memory", "-1"], "--memory '-1'"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words, "--output", str(tmp_path / "b")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("limit", "code"),
    [(2048, EXIT_DONE), (512, EXIT_DONE), (0, EXIT_FAILED)],  # all, the shorter one, none
)
def test_a_bench_that_has_measured_nothing_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    limit: int,
    code: int,
) -> None:
    """The longest of a ladder end for want of memory, which is what it is for."""

    def run(one: Case, *_: object) -> Result:
        return result(one, OK if one.length <= limit else REFUSED, 1.0)

    monkeypatch.setattr(running, "run_case", run)
    monkeypatch.setattr(command, "_show", lambda *_: None)
    for name in read_table().ours:
        monkeypatch.delenv(name, raising=False)
    words = ["bench", "--lengths", "512", "2k", "--layouts", "dp", "--output", str(tmp_path / "b")]
    for _ in range(2):  # what is known is not run again, and is as it was
        assert main(words) == code
        said = capsys.readouterr().err
        assert (f"bench: no case was measured; what each said: {tmp_path}/b/log" in said) == (
            code > 0
        )


def test_a_full_disk_is_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(FullDisk, match="cannot be written: no space left"), Kept(tmp_path, {}):
        pass


def test_a_variable_that_a_bench_sets_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "longseq", "bench", "--output", str(tmp_path / "b")]
    done = subprocess.run(
        command, env=os.environ | {"SEQ_LEN": "1k"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        2,
        "longseq: SEQ_LEN=1k: a bench sets it itself; unset it and give --lengths\n",
    )


def test_a_list_of_cases_is_of_those_that_a_job_will_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "--list", "--lengths", "8k", "--layouts", "tp"]
    monkeypatch.setenv("DRY_RUN", "1")  # of the submission that asks
    monkeypatch.setenv("OUTPUT_DIR", "/x")
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines() == ["GPT_SMALL USE_FLASH_ATTN=1 tp2 8,192 tokens"]
    monkeypatch.setenv("USE_FLASH_ATTN_V2", "0")  # asks for nothing
    assert main(words) == 0
    capsys.readouterr()
    for name, option in (
        ("MODEL_SIZE_KEY", " and give --networks"),
        ("USE_FLASH_ATTN", " and give --kernels"),
        ("USE_FLASH_ATTN_TRITON", " and give --kernels"),
        ("SP_TYPE", " and give --layouts"),
        ("TRAIN_ITERS", " and give --steps"),
        ("RESUME", ""),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            assert main(words) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err == f"longseq: {name}=1: a bench sets it itself; unset it{option}\n"
