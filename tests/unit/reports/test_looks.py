"""What is drawn is told apart without colour, and said: runs, areas, losses that are no number."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from longseq.reports.compare import differences
from longseq.reports.curves import LOCAL, one_run, several, table
from longseq.reports.page import cards
from longseq.reports.plots import FAINT, parts_plot, tflops_plot
from longseq.reports.runs import RunRecord, read_run
from longseq.reports.together import losses_together, validations_together
from tests.unit.reports.test_report import make_run


def test_runs_differ_by_more_than_colour(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path / f"r{n}", 3)) for n in range(9)]
    series = several(runs, [run.folder.name for run in runs])["charts"][0]["series"]
    styles = [(one["colour"], one["dash"]) for one in series]
    assert len(set(styles)) == len(runs)
    assert all(a[1] != b[1] for a, b in pairwise(styles))
    drawn = losses_together(runs[:2], near=False)
    dashes = re.findall(
        r'<path d="M [^"]*" clip-path[^>]*fill: none;([^>]*)stroke-width: 1.5', drawn
    )
    assert ["dasharray" in style for style in dashes] == [False, True]


def test_countings_and_equal_points_are_told_apart(tmp_path: Path) -> None:
    records = [{"iteration": n, "tflops": 2.0, "model_tflops": 1.0} for n in (1, 2)]
    drawn = tflops_plot(RunRecord(tmp_path, records))
    assert FAINT not in "".join(re.findall(r"clip-path[^>]*stroke-width: 1.4", drawn))
    assert len(re.findall(r"stroke-dasharray[^>]*stroke-width: 1.4", drawn)) == 2  # curve and key
    twice = [RunRecord(tmp_path / n, [{"iteration": 1, "validation_loss": 1.0}]) for n in "ab"]
    circles = re.findall(r'<path id="m[^"]*" d="M 0 ([\d.]+)', validations_together(twice))
    assert len({radius for radius in circles if float(radius) > 1}) == 2


def test_areas_of_a_picture_are_hatched(tmp_path: Path) -> None:
    drawn = parts_plot(read_run(make_run(tmp_path / "run", 20)))
    assert len(set(re.findall(r"fill: url\(#(\w+)\)", drawn))) == 4


def test_nothing_is_drawn_where_a_run_has_diverged(tmp_path: Path) -> None:
    """Nor is its last good loss told as if it were that of its end."""
    good = [{"iteration": n, "lm_loss": 2 - n / 100} for n in range(1, 81)]
    bad = [{"iteration": n, "lm_loss": math.nan} for n in range(81, 121)]
    run = RunRecord(tmp_path, good + bad)
    local = dict(zip(table(run)["x"], table(run)["c"][LOCAL], strict=True))
    assert local[80] is not None
    assert [local[n] for n in range(81, 121)] == [None] * 40
    said = dict(cards(run))
    assert said["1.2950"].endswith("20 iterations up to iteration 80, none is a number since")
    assert "up to" not in cards(RunRecord(tmp_path, good))[0][1]


def test_validations_by_place_differ_by_dash(tmp_path: Path) -> None:
    records = [{"iteration": n, "loss_after_1": 2.0, "loss_after_2": 1.0 / n} for n in range(1, 6)]
    for count, dashes in ((5, [2, 1, 0]), (1, [0])):
        charts = one_run(RunRecord(tmp_path, records[:count]))["charts"]
        series = next(c["series"] for c in charts if c["title"].startswith("Validation"))
        assert [one["dash"] for one in series] == dashes


def test_the_slowest_rank_is_a_sentence(tmp_path: Path) -> None:
    look = {"slowest_rank": 1, "slowest_host": "a", "slowest_over_median": 2.0}
    run = RunRecord(tmp_path, [{"iteration": 1, **look}])
    (card,) = [card for card in cards(run) if card[0] == "2.00 x"]
    assert card[1].startswith("the slowest rank's time over the others': rank 1 on a, alone, in 1")


def test_the_same_data_by_another_name_are_no_difference(tmp_path: Path) -> None:
    def run(name: str, data: str, directory: str) -> RunRecord:
        settings = {"data": {"data_path": data}}
        return read_run(make_run(tmp_path / name, 2, settings=settings, directory=directory))

    a, b = run("a", "data/x.fa", "/work"), run("b", "/work/data/x.fa", "/tmp")
    assert "--data-path" not in differences([a, b]).head
    other = run("c", "data/x.fa", "/home")  # the same name, of other data
    assert names([a, other]) == ["/work/data/x.fa", "/home/data/x.fa"]
    assert names([a, run("d", "data/y.fa", "/work")]) == ["data/x.fa", "data/y.fa"]
    assert json.loads((a.folder / "summary.json").read_text())["directory"] == "/work"


def test_a_run_that_diverged_is_told_among_others(tmp_path: Path) -> None:
    """Its losses of before are not those of a good one."""
    records: list[dict[str, Any]] = [{"iteration": n, "lm_loss": 1.0} for n in (1, 2)]
    good = RunRecord(tmp_path / "good", records)
    bad = RunRecord(tmp_path / "bad", [*records], {}, {"time": "2026-11-28"})
    assert not {"losses", "started"} & set(differences([good, good]).head)
    bad.metrics.append({"iteration": 3, "lm_loss": None})
    found = differences([bad, good])
    at = found.head.index("losses")
    since = "no number in 1 of 3 iterations, since iteration 3"
    assert [row[at] for row in found.rows] == [since, ""]
    assert [row[found.head.index("started")] for row in found.rows] == ["2026-11-28", ""]


def names(runs: list[RunRecord]) -> list[str]:
    found = differences(runs)
    return [row[found.head.index("--data-path")] for row in found.rows]
