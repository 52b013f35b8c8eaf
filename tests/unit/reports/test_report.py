"""The page and the table of runs: the numbers that were measured, whole, and nothing else."""

import base64
import csv
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from longseq.__main__ import main
from longseq.errors import UserError
from longseq.reports.compare import differences
from longseq.reports.curves import NEAR, several
from longseq.reports.page import page, write_page
from longseq.reports.plots import INK, bounds_near, gradient_plot, smooth, thin
from longseq.reports.runs import RunRecord, read_run
from longseq.reports.sections import flat
from longseq.reports.together import labels, losses_together


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
                "data_seconds": 0.01,
                "forward_seconds": 0.14,
                "backward_seconds": 0.25,
                "update_seconds": 0.1,
            }
            if i % 20 == 0:
                line["validation_loss"] = 2.5 - i / 100
            file.write(json.dumps(line) + "\n")
        file.write('{"iteration": 61, "lm')
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def undrawn(patch: pytest.MonkeyPatch) -> None:
    """Pages without pictures, which take most of a page's time."""
    for name in ("plots", "together"):
        patch.setattr(f"longseq.reports.{name}.as_svg", lambda *_: "<svg></svg>")


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
        "1.4950",  # the mean of 1.40 to 1.59
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
    assert page.words[page.words.index("backward") + 1] == "0.25 s, 50.0%"
    assert page.words[page.words.index("a.b") + 1] == "1, 2"
    assert page.tags.count("script") == 3  # numbers, uPlot, ours; the policy names the last two
    assert page.outside == []
    assert len(page.pictures) == 6  # of what was measured


def contrast(one: str, other: str) -> float:
    """Of two colours, by WCAG 2.2: 4.5 and more can be read."""

    def luminance(colour: str) -> float:
        digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_page_can_be_read_by_all_in_both_themes(tmp_path: Path) -> None:
    text = write_page(read_run(make_run(tmp_path / "run", opening=[["a", "b"]]))).read_text()
    themes = re.findall(r":root \{([^}]*)\}", text)
    assert len(themes) == 2, themes
    assert contrast("000", "ffffff") == pytest.approx(21)
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): #([0-9a-f]+)", theme))
        assert {f"c{n}" for n in range(8)} < set(colours)
        for ink in ("ink", "faint"):
            for ground in ("page", "card"):
                assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground, theme)
        for n in range(8):
            assert contrast(colours[f"c{n}"], colours["card"]) >= 4.5, n
    assert "<html lang=en>" in text
    assert text.count("<h1>") == 1
    assert [
        img for img in re.findall(r"<img [^>]*>", text) if 'alt=""' in img or "alt" not in img
    ] == []
    assert "<th scope=row>a</th>" in text


def path_points(svg: str, name: str) -> int:
    """Points of the longest line in a picture."""
    ET.fromstring(svg)
    paths = re.findall(r' d="([^"]*)"', svg)
    assert name in svg
    return max(len(re.findall(r"[ML]", path)) for path in paths)


def test_curves_are_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", unigram_loss=1.5)
    loss, near_marks, *_ = Page(write_page(read_run(run)).read_text()).pictures
    assert path_points(near_marks, "unigram") >= 2
    assert "validation" in loss
    assert "bits per base" not in loss


def test_what_is_no_number_is_a_gap_in_the_picture(tmp_path: Path) -> None:
    """And what stands alone a point, as the only iteration does."""
    picture = gradient_plot(read_run(make_run(tmp_path / "run", 60)))  # all but 5
    curve = max(re.findall(r'<path d="([^"]*)" clip-path', picture), key=len)
    assert (curve.count("M"), curve.count("L")) == (2, 3 + 54)
    points = r'<g clip-path="[^"]*">\s*<use'
    assert not re.search(points, picture)
    alone = gradient_plot(read_run(make_run(tmp_path / "one", 1)))
    assert len(re.findall(points, alone)) == 1
    shown = re.findall("<text[^>]*>([^<]*)</text>", alone)
    assert shown[: shown.index("iteration")] == ["1"]


def test_losses_are_in_bits_a_base_too(tmp_path: Path) -> None:
    marks: dict[str, Any] = {
        "unigram_loss": 2 * 1.3863,
        "markov_losses": {"2": 2.75},
        "bases_a_token": 2,
    }
    run = read_run(make_run(tmp_path / "run", **marks))
    assert run.marks() == [("unigram", 2 * 1.3863), ("Markov, order 2", 2.75)]
    page = Page(write_page(run).read_text())
    assert page.words[page.words.index("2.7726") + 1].endswith("(2.000 bits per base)")
    assert page.words[page.words.index("2.7500") + 1].endswith("(1.984 bits per base)")
    assert all("bits per base" in picture for picture in page.pictures[:2])


def test_the_second_picture_is_of_the_losses_near_the_marks() -> None:
    low, high = bounds_near([9.0, 5.0, 1.9, 1.8, 1.7, 1.6], [1.75, 1.9])
    assert 1.5 < low < 1.6
    assert 1.9 < high < 2.0
    low, high = bounds_near([], [])
    assert low < high


def test_a_run_that_goes_on_has_the_history_of_those_before(tmp_path: Path) -> None:
    def goes_on(name: str) -> dict[str, Any]:
        return {"settings": {"run": {"load": name}}, "directory": str(tmp_path)}

    make_run(tmp_path / "a", 60)
    later = [make_run(tmp_path / "b", 60, **goes_on("a")), make_run(tmp_path / "c", 60)]
    for folder, first in zip(later, (21, 41), strict=True):
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        (folder / "metrics.jsonl").write_text("\n".join(lines[first - 1 : 60]))
    (later[1] / "summary.json").write_text(json.dumps(goes_on("b/checkpoints/step-40")))
    run = read_run(later[1])
    assert run.column("lm_loss")[0] == list(range(1, 61))
    assert run.earlier == ["iterations 1 to 20: a", "iterations 21 to 40: b"]
    assert (len(run.metrics), run.seconds()) == (20, 10.0)
    (tmp_path / "a" / "metrics.jsonl").unlink()
    run = read_run(later[1])
    assert run.column("lm_loss")[0] == list(range(21, 61))
    assert run.earlier[0] == "iterations before 21: the run they are of is not there"
    assert run.earlier[0] in Page(write_page(run).read_text()).words


def test_long_runs_stay_small(tmp_path: Path) -> None:
    size = write_page(read_run(make_run(tmp_path / "run", count=20_000))).stat().st_size
    assert size < 1_000_000


def test_a_page_reads_a_record_only_so_often(tmp_path: Path) -> None:
    """Of a run of 200,000 iterations the ranks wait for it."""
    read: list[str] = []

    class Record(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            read.append(key)
            return super().get(key, default)

    run = read_run(make_run(tmp_path / "run", 2000))
    page(RunRecord(run.folder, [Record(one) for one in run.metrics], run.summary))
    assert len(read) < 50 * 2000


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


def test_verb_shows_a_line_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    undrawn(monkeypatch)
    runs = [make_run(tmp_path / "a[red]", 60, status="done"), make_run(tmp_path / "b", 20)]
    assert main(["report", *map(str, runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        "a[red]",
        "done",
        "60",
        "1.4950",
        "1.9000",
        "12.3k",
        "0.50",
        "0:00:47",
    ]
    assert lines[2].split()[:4] == ["b", "unknown", "20", "1.8950"]
    assert lines[3] == "tokens/s and TFLOPS: medians of a run's iterations"
    assert lines[4:] == [str(run / "report.html") for run in runs]


def test_runs_together_say_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def settings(length: int, bf16: bool, beta: float, own: str) -> dict[str, Any]:
        training = {"zero_stage": 0, "seed": 1, "bf16": bf16, "adam_beta1": beta, "lr": 1e-3}
        layout = {"world_size": 2}
        return {
            "network": {"seq_length": length}, "layout": layout, "training": training,
            "run": {"run_dir": own},
        }  # fmt: skip

    runs = [
        make_run(tmp_path / "a", 60, status="done", settings=settings(512, False, 0.9, "x")),
        make_run(tmp_path / "b", 20, settings=settings(1024, True, 0.8, "y"), unigram_loss=1.9),
        make_run(tmp_path / "c", 3),
    ]
    page = tmp_path / "all.html"
    assert main(["report", *map(str, runs), "--together", str(page)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [str(page), str(page.with_suffix(".csv"))]
    with page.with_suffix(".csv").open() as lines:
        rows = {row["run"]: row for row in csv.DictReader(lines)}
    told = ("status", "length", "ranks", "precision", "--adam-beta1")
    assert [rows["a"][name] for name in told] == ["done", "512", "2", "fp32", "0.9"]
    assert [rows["b"][name] for name in told] == ["unknown", "1024", "2", "bf16", "0.8"]
    assert [rows["c"][name] for name in told] == ["unknown", "", "", "", ""]
    assert not {"--lr", "--run-dir", "--bf16"} & set(rows["a"]) - {"--lr"}
    found = Page(page.read_text())
    assert (len(found.pictures), found.outside) == (4, [])
    assert path_points(found.pictures[0], "a") >= 60
    assert "unigram" not in found.pictures[2]  # which is that of b alone
    assert [rows[name]["baseline: unigram"] for name in "abc"] == ["", "1.9000", ""]
    assert any("are in the table only" in words for words in found.words)
    differ = [len({row[name] for row in rows.values()}) > 1 for name in rows["a"]]
    assert differ == sorted(differ, reverse=True)
    assert list(rows["a"])[:3] == ["run", "length", "ranks"]
    assert list(rows["a"]).index("--adam-beta1") < list(rows["a"]).index("training loss")
    assert main(["report", str(runs[0]), "--together", "x.pdf"]) == 2


def test_a_run_that_is_not_there_is_left_out_with_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the others all is written; a folder that is no run is none of it."""
    undrawn(monkeypatch)
    run, page = make_run(tmp_path / "a", 20), tmp_path / "all.html"
    assert main(["report", str(run), str(tmp_path / "b"), "--together", str(page)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("longseq: left out: ")
    assert str(tmp_path / "b") in said.err
    assert said.out.splitlines()[-2:] == [str(page), str(page.with_suffix(".csv"))]
    assert "1 run" in Page(page.read_text()).words
    (tmp_path / "b").mkdir()
    assert main(["report", str(run), str(tmp_path / "b")]) == 0


def test_runs_together_take_the_place_of_no_other_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's own page or table, by whatever name, or a .csv that nobody named."""
    undrawn(monkeypatch)
    run = make_run(tmp_path / "a", 3)
    (tmp_path / "link").symlink_to(run)
    for name, text in (("mine.csv", "name,run\n"), ("empty.csv", "")):
        (tmp_path / name).write_text(text)
    for name, lost in (
        ("a/report.html", "a/report.html, which is a run's"),
        ("link/report.html", "link/report.html, which is a run's"),
        ("a/metrics.html", "a/metrics.csv, which is a run's"),
        ("mine.html", "mine.csv, which is no table of runs"),
        ("empty.html", "empty.csv, which is no table of runs"),
    ):
        assert main(["report", str(run), "--together", f"{tmp_path}/{name}"]) == 2
        error = capsys.readouterr().err
        said = f"--together {tmp_path}/{name} would replace {tmp_path}/{lost}: name another\n"
        assert error == f"longseq: {said}"
    assert (tmp_path / "mine.csv").read_text() == "name,run\n"
    assert not (run / "report.html").exists()
    for _ in range(2):  # its own is replaced
        assert main(["report", str(run), "--together", f"{tmp_path}/own.html"]) == 0


def test_baselines_of_runs_together_are_drawn_where_all_have_the_same(tmp_path: Path) -> None:
    """Each in a style of its own, however many; others stand in the table alone."""
    markov = {"2": 1.8, "3": 1.7, "4": 1.6}
    runs = [
        read_run(make_run(tmp_path / name, 60, unigram_loss=1.9, markov_losses=markov | more))
        for name, more in (("a", {"5": 1.5}), ("b", {"5": 1.55}), ("c", {"4": 1.6000000001}))
    ]
    picture = losses_together(runs, near=True)
    names = ["unigram", *(f"Markov, order {n}" for n in markov)]
    assert re.findall("<text[^>]*>((?:un|Mark)[^<]*)</text>", picture) == names
    lines = re.findall('<path [^>]*style="(fill: none; stroke-dasharray[^"]*)"', picture)
    lines = [line for line in lines if f"stroke: {INK}" in line]  # else of a run
    assert len(set(lines)) == len(names)
    charts = several(runs, ["a", "b", "c"])["charts"]
    chart = next(chart for chart in charts if chart["title"] == NEAR)
    assert chart["unit"].endswith("are in the table only")
    marks = [one for one in chart["series"] if "value" in one]
    assert [(one["label"], one["value"]) for one in marks] == list(
        zip(names, [1.9, *markov.values()], strict=True)
    )
    assert len({(one["dash"], one.get("faint")) for one in marks}) == len(names)
    table = differences(runs)
    at = table.head.index("baseline: Markov, order 5")
    assert [row[at] for row in table.rows] == ["1.5000", "1.5500", ""]
    assert "baseline: unigram" not in table.head
    near = {chart["title"]: chart["unit"] for chart in several(runs[:1], ["a"])["charts"]}[NEAR]
    assert near == "nats a token"


def test_names_on_curves_are_as_short_as_tells_them_apart(tmp_path: Path) -> None:
    def names(*folders: str) -> list[str]:
        return labels([RunRecord(tmp_path / folder, []) for folder in folders])

    first, second = "G_tp2_s512_20261126-101506_12", "G_tp2_s512_20261126-101704_12"
    assert names(first, "other") == ["G_tp2_s512", "other"]
    assert names(first, second) == ["G_tp2_s512 101506", "G_tp2_s512 101704"]
    other_day = "G_tp2_s512_20261127-101506_12"
    assert names(first, other_day) == ["20261126-101506_12", "20261127-101506_12"]
    many = "network_of_mine_tp2_sequence", "network_of_mine_ring_sequence"
    assert names(*many) == ["tp2_sequence", "ring_sequence"]
    assert names("x" * 30 + "y" * 30) == ["x" * 22 + "…" + "y" * 16]


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


def test_a_smoothed_curve_neither_lags_nor_bends_at_its_ends() -> None:
    noise = [(-1) ** n * 0.3 for n in range(200)]
    falling = [100.0 - n for n in range(200)]
    found = smooth([a + b for a, b in zip(falling, noise, strict=True)])
    assert found == pytest.approx(falling, abs=0.3)
    assert max(abs(a - b) for a, b in zip(found[10:-10], falling[10:-10], strict=True)) < 0.1
    assert smooth(falling) == pytest.approx(falling)
    assert smooth([3.0, 1.0]) == [3.0, 1.0]


def test_flat_names_nested_settings() -> None:
    assert flat({"a": {"b": 1}, "c": [1, 2]}) == [("a.b", "1"), ("c", "1, 2")]
