"""The page and the table of runs: the numbers that were measured, whole, and nothing else."""

import base64
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from longseq.__main__ import main
from longseq.errors import UserError
from longseq.reports.page import flat, write_page
from longseq.reports.plots import smooth, smooth_both_ways, thin
from longseq.reports.runs import read_run


def make_run(folder: Path, count: int = 60, **summary: Any) -> Path:
    folder.mkdir()
    with (folder / "metrics.jsonl").open("w") as file:
        for i in range(1, count + 1):
            line = {
                "iteration": i,
                "consumed_tokens": i * 1000,
                "lm_loss": 2 - i / 100,
                "iteration_time": 9.0 if i <= 2 else 0.5,
                "tokens_per_sec": 10.0 if i <= 2 else 12345.0,
                "grad_norm": None if i == 5 else 1.0,
                "peak_memory_gib": 0.5,
            }
            if i % 20 == 0:
                line["validation_loss"] = 2.5 - i / 100
            file.write(json.dumps(line) + "\n")
        file.write('{"iteration": 61, "lm')
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


class Page(HTMLParser):
    """Text, table rows and pictures of a page; any address outside it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.pictures: list[str] = []
        self.outside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "src" and value and value.startswith("data:image/svg+xml;base64,"):
                self.pictures.append(base64.b64decode(value.split(",", 1)[1]).decode())
            elif name in ("src", "href"):
                self.outside.append(str(value))

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


def test_page_has_the_numbers_and_stands_alone(tmp_path: Path) -> None:
    rows = [["layout", "2 ranks = tp 2"], ["note", "<script>alert(1)</script>"]]
    run = make_run(
        tmp_path / "run",
        status="failed",
        unigram_loss=1.75,
        opening=rows,
        settings={"a": {"b": [1, 2]}},
    )
    page = Page(write_page(read_run(run)).read_text())
    for text in (
        "failed",
        "1.4000",
        "1.9000",
        "1.7500",
        "60",
        "60k",
        "12.3k",
        "0:00:47",
        "0.50 GiB",
    ):
        assert text in page.words, text
    assert page.words[page.words.index("layout") + 1] == "2 ranks = tp 2"
    assert "<script>alert(1)</script>" in page.words
    assert page.words[page.words.index("a.b") + 1] == "1, 2"
    assert "script" not in page.tags
    assert page.outside == []
    assert len(page.pictures) == 6


def path_points(svg: str, name: str) -> int:
    """Points of the longest line in a picture."""
    ET.fromstring(svg)
    paths = re.findall(r' d="([^"]*)"', svg)
    assert name in svg
    return max(len(re.findall(r"[ML]", path)) for path in paths)


def test_curves_are_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", unigram_loss=1.5)
    (
        loss,
        *_,
    ) = Page(write_page(read_run(run)).read_text()).pictures
    assert path_points(loss, "unigram") >= 2
    assert "validation" in loss


def test_long_runs_stay_small(tmp_path: Path) -> None:
    size = write_page(read_run(make_run(tmp_path / "run", count=20_000))).stat().st_size
    assert size < 1_000_000


def test_a_run_that_did_not_end_is_reported(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", count=1)
    (run / "summary.json").write_text("{")
    assert write_page(read_run(run)).exists()
    assert read_run(run).typical("tokens_per_sec") == 10.0


def test_typical_speed_leaves_the_warm_up_out(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", count=4))
    assert run.typical("tokens_per_sec") == 12345.0
    assert run.column("validation_loss") == ([], [])
    assert run.column("grad_norm") == ([1, 2, 3, 4], [1.0] * 4)


def test_verb_shows_a_line_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make_run(tmp_path / "a[red]", 60, status="done"), make_run(tmp_path / "b", 20)]
    assert main(["report", *map(str, runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        "a[red]",
        "done",
        "60",
        "1.4000",
        "1.9000",
        "12.3k",
        "0.50",
        "0:00:47",
    ]
    assert lines[2].split()[:4] == ["b", "unknown", "20", "1.8000"]
    assert lines[3:] == [str(run / "report.html") for run in runs]


@pytest.mark.parametrize("words", [["nowhere"], ["--open", "x"]])
def test_mistakes_are_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("longseq: ")
    assert said.err.count("\n") == 1


def test_empty_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no iteration yet"):
        read_run(tmp_path)


def test_thin_keeps_the_means() -> None:
    xs, ys = thin(range(10), [float(i) for i in range(10)], 3)
    assert (xs, ys) == ([1.5, 5.5, 8.5], [1.5, 5.5, 8.5])
    assert thin([], []) == ([], [])


def test_smooth_has_no_bias() -> None:
    assert smooth([2.0] * 5, 0.9) == pytest.approx([2.0] * 5)
    assert smooth([1.0, 3.0], 0.5) == pytest.approx([1.0, (0.25 * 1 + 0.5 * 3) / 0.75])


def test_a_smoothed_curve_does_not_lag() -> None:
    falling = [100.0 - i for i in range(101)]
    assert smooth_both_ways(falling, 0.9)[50] == pytest.approx(falling[50])
    assert smooth(falling, 0.9)[50] > falling[50] + 5
    assert smooth_both_ways([2.0] * 5, 0.9) == pytest.approx([2.0] * 5)


def test_flat_names_nested_settings() -> None:
    assert flat({"a": {"b": 1}, "c": [1, 2]}) == [("a.b", "1"), ("c", "1, 2")]
