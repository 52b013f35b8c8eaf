"""Figures in columns: what a terminal of each width shows."""

import pytest

from longseq.reports.columns import columns

HEAD = ["status", "training loss", "GiB"]
ROWS = [["stopped early", "1.5710", "0.49"], ["done", "1.3743", "12.57"]]
NAMES = ["a", "a-long-name"]


def test_a_line_a_run_where_there_is_room() -> None:
    wide = [
        "run                 status  training loss    GiB",
        "a            stopped early         1.5710   0.49",
        "a-long-name           done         1.3743  12.57",
    ]
    assert columns(NAMES, HEAD, ROWS, None) == wide
    assert columns(NAMES, HEAD, ROWS, 48) == wide
    assert len(columns(NAMES, HEAD, ROWS, 47)) == 6


def test_two_lines_a_run_where_there_is_little() -> None:
    assert columns(NAMES, HEAD, ROWS, 40) == [
        "                 training",
        "         status      loss    GiB",
        "a",
        "  stopped early    1.5710   0.49",
        "a-long-name",
        "           done    1.3743  12.57",
    ]


def test_a_long_name_is_without_its_middle() -> None:
    """Beside its figures where that tells the names apart, above them else; whole in a file."""
    names = [f"GPT_tp1_s128_seed1234_20261127-13191{n}_15571" for n in (1, 2)]
    lines = columns(names, HEAD, ROWS, 37 + 25)  # 37 for the figures
    assert [line[:25] for line in lines] == [
        "run".ljust(25), "GPT_tp1_s128_s…1911_15571", "GPT_tp1_s128_s…1912_15571",
    ]  # fmt: skip
    assert {len(line) for line in lines} == {62}
    assert columns(names, HEAD, ROWS, 37 + 23)[2::2] == names
    alike = [f"{'a' * 30}{n}{'b' * 30}" for n in (1, 2)]
    lines = columns(alike, HEAD, ROWS, 65)
    assert (lines[2], len(lines)) == (alike[0], 6)
    assert columns(alike, HEAD, ROWS, 40)[2] == "a" * 23 + "…" + "b" * 16
    assert [line.split()[0] for line in columns(alike, HEAD, ROWS, None)[1:]] == alike
    assert columns(["基因" * 20], HEAD, ROWS[:1], 35)[2] == "基因" * 5 + "…" + "因" + "基因" * 3


@pytest.mark.parametrize("width", [15, 24, 25, 31, 32])
def test_no_figure_is_cut(width: int) -> None:
    lines = columns(NAMES, HEAD, ROWS, width)
    figures = [line.split("  ") for line in lines if line.startswith("  stopped")]
    kept = 1 + (width >= 25) + (width >= 32)
    assert [cell for cell in map(str.strip, figures[0]) if cell] == ROWS[0][:kept]
    assert max(map(len, lines)) <= width


def test_a_wide_letter_takes_two_columns() -> None:
    assert columns(["基因"], ["GiB"], [["0.5"]], None) == ["run   GiB", "基因  0.5"]
