"""The numbers that a page's curves are drawn from: the file's own, few enough, safe in a page."""

import base64
import hashlib
import json
import math
import re
from pathlib import Path

import longseq.reports
from longseq.reports.curves import as_json, kept, one_run, several, table
from longseq.reports.page import write_page
from longseq.reports.runs import read_run
from tests.unit.reports.test_report import make_run

WEB = Path(longseq.reports.__file__).parent / "web"
UPLOT = {  # of uplot-1.6.32.tgz in npm's registry
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


def test_the_library_is_the_one_that_was_released() -> None:
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (WEB / "uplot").iterdir()
    }
    assert found == UPLOT
    scripts = [(WEB / name).read_text() for name in ("uplot/uPlot.iife.min.js", "curves.js")]
    assert [text for text in scripts if re.search("</script|<!--", text)] == []


def test_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    found = table(read_run(make_run(tmp_path / "run", 60)))
    assert found["x"] == list(range(1, 61))
    assert found["c"]["lm_loss"] == [round(2 - i / 100, 9) for i in range(1, 61)]
    assert found["c"]["grad_norm"][4] is None
    assert [v for v in found["c"]["validation_loss"] if v is not None] == [2.3, 2.1, 1.9]


def test_a_long_run_keeps_its_extremes_and_validations() -> None:
    records = [{"iteration": n, "lm_loss": 1.0 + math.sin(n) / 9, "grad_norm": 1.0}
               for n in range(50_000)]  # fmt: skip
    records[31_234]["lm_loss"] = 9.0
    records[4_321]["grad_norm"] = 0.1
    for n in range(0, 50_000, 1000):
        records[n]["validation_loss"] = 1.0
    some = kept(records, 3000)
    assert len(some) <= 3000 + 51
    places = {record["iteration"] for record in some}
    assert {0, 31_234, 4_321, 49_999, *range(0, 50_000, 1000)} <= places
    assert all(record is records[record["iteration"]] for record in some)
    assert max(b - a for a, b in zip(sorted(places)[:-1], sorted(places)[1:], strict=True)) <= 234


def test_no_name_ends_the_script(tmp_path: Path) -> None:
    name = "<script>&\u2028\"'<!--"
    runs = [read_run(make_run(tmp_path / each, 3)) for each in (name, "b")]
    content = several(runs, [run.folder.name for run in runs])
    text = as_json(content)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text)["charts"][0]["series"][0]["label"] == name
    page = write_page(runs[0]).read_text()
    start = page.index("id=numbers>") + len("id=numbers>")
    inside = page[start : page.index("</script>", start)]
    assert json.loads(inside) == json.loads(as_json(one_run(runs[0])))


def test_the_policy_lets_these_scripts_run_and_no_other(tmp_path: Path) -> None:
    page = write_page(read_run(make_run(tmp_path / "run", 3))).read_text()
    policy = re.findall(r'Content-Security-Policy content="([^"]*)"', page)[0].replace("&#39;", "'")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    sums = [hashlib.sha256(text.encode()).digest() for text in scripts]
    named = re.findall(r"'sha256-([^']*)'", policy)
    assert [base64.b64decode(one) for one in named] == sums
    assert len(sums) == 2
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe-inline" not in policy.partition("script-src")[2]
