"""Runs as they should not be: damaged, of another version, empty. What is whole is shown."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longseq.__main__ import main
from longseq.errors import FullDisk
from longseq.reports.command import write_csv
from longseq.reports.compare import write_together
from longseq.reports.page import write_page
from longseq.reports.runs import read_run
from longseq.reports.together import losses_together, speeds_together
from tests.full_disk import room_for
from tests.unit.reports.test_report import Page, make_run, undrawn


def test_damaged_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", 60)
    lines = (folder / "metrics.jsonl").read_bytes().splitlines()
    lines[9:11] = [b"\xff\x00{", b"[]"]
    (folder / "metrics.jsonl").write_bytes(b"\n".join(lines))
    run = read_run(folder)
    assert [n for n in range(1, 61) if n not in run.column("lm_loss")[0]] == [10, 11]
    assert run.lost == 2
    assert any("2 of its lines" in word for word in Page(write_page(run).read_text()).words)


def test_what_is_lost_is_said_of_one_among_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    undrawn(monkeypatch)
    runs = [make_run(tmp_path / name, 60) for name in "abcd"]
    lines = (runs[1] / "metrics.jsonl").read_text().splitlines()
    lines[10:12] = ["{", "\0"]
    (runs[1] / "metrics.jsonl").write_text("\n".join(lines))
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "metrics.jsonl").touch()
    page = tmp_path / "all.html"
    assert main(["report", *map(str, [*runs, empty]), "--together", str(page)]) == 0
    said = capsys.readouterr()
    assert f"left out: {empty / 'metrics.jsonl'} holds no iteration yet" in said.err
    assert f"{runs[1]}: 2 lines of metrics.jsonl cannot be read" in said.err
    with page.with_suffix(".csv").open() as file:
        assert [row["lines lost"] for row in csv.DictReader(file)] == ["0", "2", "0", "0"]
    assert "lines lost" in Page(page.read_text()).words


def test_a_runs_name_is_no_formula(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path / name, 3)) for name in (r"x$\q$", "other")]
    for svg in (losses_together(runs, near=False), speeds_together(runs)):
        assert r">x$\q$<" in svg


def test_a_run_of_another_version_is_shown(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    lines = [{"iteration": n, "loss": 1.0, "lm_loss": 2.0 / n, "new": {"a": [n]}} for n in (1, 2)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "summary.json").write_text('{"format": 9, "settings": {"network": 3}, "opening": 1}')
    run = read_run(folder)
    page = Page(write_page(run).read_text())
    assert len(page.pictures) == 2
    assert "1.5000" in page.words
    assert write_together([run] * 5, tmp_path / "five.html")[0].exists()


def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 73, and the page of before is whole."""
    undrawn(monkeypatch)
    folder = make_run(tmp_path / "run", 60)
    run = read_run(folder)
    assert main(["report", str(folder)]) == 0
    before = (folder / "report.html").read_bytes()
    capsys.readouterr()
    with room_for(500):
        assert main(["report", str(folder)]) == 73
        error = capsys.readouterr().err
        assert error.startswith(f"longseq: {folder}/report.html cannot be written: no space left")
        assert error.count("\n") == 1
        with pytest.raises(FullDisk, match=r"a\.html cannot be written: no space left"):
            write_together([run, run], tmp_path / "a.html")
        with pytest.raises(FullDisk, match=r"a\.csv cannot be written: no space left"):
            write_csv(tmp_path / "a.csv", run.metrics)
    assert (folder / "report.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert sorted(path.name for path in folder.iterdir() if path.name[0] == ".") == []


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    SCALARS, lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=9), c, max_size=3)
)
KEYS = """
    lm_loss validation_loss iteration_time data_seconds peak_memory_gib slowest_rank tokens_per_sec
    slowest_over_median slowest_host event planned_memory_gib measured_memory_gib consumed_tokens
""".split()
RECORDS = st.fixed_dictionaries(
    {"iteration": st.integers(0, 5) | JSON}, optional=dict.fromkeys(KEYS, JSON)
)
TOLD = """
    status opening closing settings directory unigram_loss markov_losses bases_a_token
""".split()
SUMMARIES = st.fixed_dictionaries({}, optional=dict.fromkeys(TOLD, JSON))


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(records=st.lists(RECORDS, min_size=1, max_size=4), summary=SUMMARIES, hosts=JSON)
def test_whatever_stands_in_the_files_there_is_a_page(
    tmp_path: Path, records: list[Any], summary: Any, hosts: Any
) -> None:
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    lines = [{"iteration": 1, "lm_loss": 1.0}, *records]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "environment.json").write_text(json.dumps({"hosts": hosts}))
    run = read_run(folder)
    assert write_page(run).stat().st_size > 1000
    assert len(write_together([run, run], tmp_path / "all.html")) == 2
