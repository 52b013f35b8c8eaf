"""The page in a browser: a run with a spike, a resume and validations, and five runs together.

Skipped where there is no Chromium. AXE=…/axe.min.js (CONTRIBUTING.md) checks accessibility as well.
"""

import json
import math
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from longseq.reports.compare import write_together
from longseq.reports.page import write_page
from longseq.reports.runs import read_run
from tests.browser import PROGRAM, Browser, Page

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium here")
LOOKS = [(width, dark) for width in (400, 1600) for dark in (False, True)]
HOSTILE = "</script><img src=x onerror=alert(1)>&<!--"
SPIKE = 71

# Text and its ground, of all that is seen: [contrast by WCAG 2.2, text]
CONTRASTS = """(() => {
  const rgb = (c) => c.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92
    : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] === 1) return c; }
    return [255, 255, 255]; };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length || e.tagName === "SCRIPT") continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => x - y);
    found.push([(b + 0.05) / (a + 0.05), e.textContent]);
  }
  const style = getComputedStyle(document.documentElement), probe = document.createElement("i");
  document.body.append(probe);
  for (let n = 0; n < 8; n++) {
    probe.style.color = `var(--c${n})`; probe.style.background = "var(--card)";
    const of = getComputedStyle(probe);
    const [a, b] = [light(rgb(of.color)), light(rgb(of.backgroundColor))].sort((x, y) => x - y);
    found.push([(b + 0.05) / (a + 0.05), `curve ${n}`]);
  }
  probe.remove();
  return found;
})()"""


def make_run(folder: Path, first: int, last: int, seed: int = 0, **summary: Any) -> Path:
    """A run as the trainer writes it; seed 0 has a spike."""
    folder.mkdir()
    dice = random.Random(seed)
    lines = []
    for i in range(first, last + 1):
        seconds = 0.5 + dice.random() / 20
        line: dict[str, Any] = {
            "iteration": i,
            "lm_loss": 1.3 + math.exp(-i / 20) + dice.gauss(0, 0.01) + seed / 20,
            "grad_norm": 1 + dice.random(),
            "learning_rate": 1e-3 / i,
            "iteration_time": seconds,
            "tokens_per_sec": 8192 / seconds,
            "tflops": 0.02 / seconds,
            "model_tflops": 0.01 / seconds,
            "peak_memory_gib": 1.5,
            **{f"{part}_seconds": seconds / 4 for part in ("data", "forward", "backward")},
            "update_seconds": seconds / 4,
        }
        if i % 20 == 0:
            line |= {"validation_loss": line["lm_loss"] + 0.02, "validation_seconds": 2.0}
            line |= {f"loss_after_{2**n}": 1.4 - n / 50 for n in range(10)}
            line |= {"least_memory_gib": 1.0, "most_memory_gib": 1.5, "most_memory_rank": 1}
        if i == SPIKE and seed == 0:
            line |= {"lm_loss": 4.25, "event": f"the loss was 4.25 {HOSTILE}"}
        lines.append(json.dumps(line))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    marks: dict[str, Any] = {"unigram_loss": 1.38, "markov_losses": {"2": 1.36}, "bases_a_token": 1}
    marks["memory"] = {"planned": {"weights": 2**30}, "capacity": 2**33, "moment": "the head"}
    marks["data"] = {"sets": [{"name": "genes", "documents": 3, "tokens": 900}]}
    told = {"status": "done", "directory": str(folder.parent), "opening": [["layout", "2 ranks"]]}
    (folder / "summary.json").write_text(json.dumps(told | marks | summary))
    (folder / "environment.json").write_text(json.dumps({"hosts": ["a"], "system": "x"}))
    (folder / "command.sh").write_text("./ALCF/train-gpt3.sh\n")
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run that went on from another."""
    top = tmp_path_factory.mktemp("one")
    make_run(top / "before", 1, 40)
    settings = {"run": {"load": "before"}, "network": {"seq_length": 512}}
    return write_page(read_run(make_run(top / "run", 41, 120, settings=settings)))


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of five runs, one of them with a hostile name."""
    top = tmp_path_factory.mktemp("five")
    names = ["a", "b", "c", "d", HOSTILE.replace("/", "∕")]
    runs = [
        read_run(
            make_run(top / name, 1, 60 + 10 * n, seed=n, settings={"network": {"seq_length": n}})
        )
        for n, name in enumerate(names)
    ]
    return write_together(runs, top / "five.html")[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


HEADINGS = {
    "one": (
        "Curves,What happened,This run,Where the time goes,Memory of a rank,Ranks,Data,"
        "Values of some iterations,Settings,Environment,Command"
    ).split(","),
    "five": ["Curves", "Differences"],
}
DRAWN = """((number, curve, from, to) => {
  const figure = document.querySelectorAll("figure")[number], probe = document.createElement("i");
  const over = figure.querySelector(".u-over");
  document.body.append(probe);
  probe.style.color = `var(--c${curve})`;
  const colour = getComputedStyle(probe).color.match(/[0-9]+/g).map(Number);
  probe.remove();
  const left = over.offsetLeft + from * over.offsetWidth, wide = (to - from) * over.offsetWidth;
  const {data} = figure.querySelector("canvas").getContext("2d").getImageData(
    Math.round(left), over.offsetTop, Math.max(1, Math.round(wide)), over.offsetHeight);
  let found = 0;
  for (let n = 0; n < data.length; n += 4)
    if (data[n + 3] === 255 && colour.every((v, i) => Math.abs(v - data[n + i]) < 3)) found += 1;
  return found;
})"""


def drawn(page: Page, figure: int, colour: int, low: float = 0.0, high: float = 1.0) -> int:
    """How many pixels of a plot have a curve's colour, in a part of its width."""
    return int(page.run(f"{DRAWN}({figure}, {colour}, {low}, {high})"))


@pytest.mark.parametrize(("name", "pictures"), [("one", 9), ("five", 4)])
def test_it_can_be_read_in_both_themes_at_any_width(
    request: pytest.FixtureRequest, browser: Browser, name: str, pictures: int
) -> None:
    page = browser.open(request.getfixturevalue(name))
    page.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for width, dark in LOOKS:  # the same page: it follows
        page.look(width, dark)
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.run("document.querySelectorAll('figure.live .uplot canvas').length") == pictures
        found = page.run(CONTRASTS)
        assert len(found) > 40
        assert [(c, text) for c, text in found if c < (3 if "curve" in text else 4.5)] == []
        assert drawn(page, 0, 0) > width / 4
    told = page.run("[...document.querySelectorAll('h2, summary')].map((e) => e.textContent)")
    assert [heading for heading in HEADINGS[name] if heading not in told] == []
    assert page.complaints() == []
    page.close()


def records(page: Path) -> dict[int, dict[str, Any]]:
    folders = page.parent.parent / "before", page.parent
    lines = [line for f in folders for line in (f / "metrics.jsonl").read_text().splitlines()]
    return {record["iteration"]: record for record in map(json.loads, lines)}


def box(page: Page, number: int) -> tuple[float, float, float, float]:
    """Left, top, width and height of the plot of a figure, in view."""
    over = f"document.querySelectorAll('figure .u-over')[{number}]"
    page.run(f"{over}.scrollIntoView({{block: 'center'}})")
    rect = page.run(f"(() => {{ const r = {over}.getBoundingClientRect();"
                    " return [r.x, r.y, r.width, r.height]; })()")  # fmt: skip
    return rect[0], rect[1], rect[2], rect[3]


def told(page: Page, number: int) -> tuple[int, dict[str, str]]:
    """The iteration and the values that a figure's key shows."""
    figure = f"document.querySelectorAll('figure')[{number}]"
    at = page.run(f"{figure}.querySelector('.at').textContent")
    texts = "['span', 'b'].map((tag) => b.querySelector(tag).textContent.trim())"
    rows = page.run(f"[...{figure}.querySelectorAll('.key button')].map((b) => {texts})")
    return int(re.sub(r"\D", "", at)), dict(rows)


def test_the_values_under_the_pointer_are_those_of_the_file(browser: Browser, one: Path) -> None:
    page, measured = browser.open(one), records(one)
    for number, part in ((0, 0.3), (1, 0.9), (3, 0.1)):
        left, top, width, height = box(page, number)
        page.mouse("Moved", left + part * width, top + height / 2)
        at, loss = told(page, 0)
        assert at == pytest.approx(1 + part * 119, abs=1)
        key = "each iteration"
        assert float(loss[key].split()[0]) == pytest.approx(measured[at]["lm_loss"], rel=1e-4)
        bits = float(loss[key].split("(")[1].split()[0])
        assert bits == pytest.approx(measured[at]["lm_loss"] / math.log(2), rel=1e-4)
        other, speed = told(page, 4)  # all pictures follow
        assert other == at
        found = float(speed["speed"].replace(",", ""))
        assert found == pytest.approx(measured[at]["tokens_per_sec"], rel=1e-4)
    page.close()


def test_zoom_by_pointer_and_buttons(browser: Browser, one: Path) -> None:
    page = browser.open(one)
    left, top, width, height = box(page, 0)
    page.drag((left + 0.5 * width, top + 50), (left + 0.75 * width, top + 50))
    page.mouse("Moved", left + 1, top + height / 2)
    assert told(page, 0)[0] == pytest.approx(1 + 0.5 * 119, abs=1)
    page.mouse("Moved", left + width - 1, top + height / 2)
    assert told(page, 5)[0] == pytest.approx(1 + 0.75 * 119, abs=1)
    page.run("document.querySelector('[data-act=whole]').click()")
    page.mouse("Moved", left + width - 2, top + height / 2)
    assert told(page, 0)[0] == 120
    page.close()


def test_the_keyboard_reaches_every_value(browser: Browser, one: Path) -> None:
    page, measured = browser.open(one), records(one)
    slider = "document.querySelectorAll('figure input[type=range]')[0]"
    page.run(f"{slider}.focus()")
    page.key("Home")
    for _ in range(SPIKE - 1):
        page.key("ArrowRight")
    at, loss = told(page, 0)
    assert at == SPIKE
    assert float(loss["each iteration"].split()[0]) == 4.25
    said = page.run(f"{slider}.getAttribute('aria-valuetext')")
    assert said.startswith(f"iteration {SPIKE}: each iteration 4.25")
    assert HOSTILE in said  # the event, as text
    assert f"validation {measured[80]['validation_loss']:.5g}"[:15] in said
    assert page.run("document.querySelectorAll('img[src=x]').length") == 0
    page.run("document.querySelectorAll('figure input[type=range]')[2].focus()")
    page.key("End")
    assert told(page, 2)[1]["iteration 120"] == f"{1.4 - 9 / 50:.5g}"  # 512 tokens before
    page.run(f"{slider}.focus()")
    page.key("+")
    page.key("End")
    assert told(page, 0)[0] == 120
    page.key("0")
    page.key("Home")
    assert told(page, 0)[0] == 1
    assert page.complaints() == []
    page.close()


def test_several_runs_open_at_the_last_value_of_each(browser: Browser, five: Path) -> None:
    """And every value can be read, of whichever run it is, by pointer and keyboard."""
    page = browser.open(five)
    for figure, key in ((0, "lm_loss"), (1, "validation_loss"), (3, "tokens_per_sec")):
        at, shown = told(page, figure)
        last = {}
        for name in "abcd":
            lines = (five.parent / name / "metrics.jsonl").read_text().splitlines()
            last[name] = [r for r in map(json.loads, lines) if key in r][-1]
        assert at == 100
        for name, record in last.items():
            value = shown[name].replace(",", "").split(" at ")
            if key != "lm_loss":  # whose local mean is drawn
                assert float(value[0]) == pytest.approx(record[key], rel=1e-4)
            assert int(value[1] if value[1:] else at) == record["iteration"], (figure, name)
    page.run("document.querySelectorAll('figure input[type=range]')[1].focus()")
    page.key("Home")
    seen = [told(page, 1)[0]]
    for _ in range(4):
        page.key("ArrowRight")
        seen.append(told(page, 1)[0])
    assert seen == [20, 40, 60, 80, 100]
    page.close()


def test_parts_say_their_share_and_differ_by_more_than_colour(browser: Browser, one: Path) -> None:
    page, measured = browser.open(one), records(one)
    titles = page.run("[...document.querySelectorAll('figcaption')].map((e) => e.textContent)")
    number = next(n for n, text in enumerate(titles) if text.startswith("Parts"))
    at, shown = told(page, number)
    for part in ("data", "forward", "backward", "update"):
        share = measured[at][f"{part}_seconds"] / measured[at]["iteration_time"]
        assert shown[part].endswith(f"({share:.1%})")
    forms = page.run(
        f"[...document.querySelectorAll('figure')[{number}].querySelectorAll('.area')]"
        ".map((e) => getComputedStyle(e).backgroundImage)"
    )
    assert (len(forms), len(set(forms))) == (4, 4)
    page.close()


def test_a_table_that_scrolls_is_shaded_where_there_is_more(browser: Browser, five: Path) -> None:
    page = browser.open(five)
    page.run("document.querySelector('.table.wide').scrollIntoView()")
    for width, dark in LOOKS[:2]:
        page.look(width, dark)
        shade = []
        for to in (0, 10_000):
            page.run(f"document.querySelector('.table.wide').scrollLeft = {to}")
            right, top, height = page.run(
                "(() => { const r = document.querySelector('.table.wide').getBoundingClientRect();"
                " return [r.right, r.top + scrollY, r.height]; })()"
            )
            clip = {"x": right - 12, "y": top + height - 5, "width": 8, "height": 1, "scale": 1}
            whole = {"format": "png", "captureBeyondViewport": True}
            shade.append(page.ask("Page.captureScreenshot", clip=clip, **whole)["data"])
        assert shade[0] != shade[1]
    page.close()


TEXTS = """(() => {  // of the axes that are drawn from now on: [figure, text, height]
  window.texts = [];
  const {fillText} = CanvasRenderingContext2D.prototype;
  CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
    const figures = [...document.querySelectorAll("figure")];
    texts.push([figures.indexOf(this.canvas.closest("figure")), text, y]);
    return fillText.call(this, text, x, y);
  };
})()"""


def test_one_iteration_is_a_point_between_whole_numbers(browser: Browser, tmp_path: Path) -> None:
    page = browser.open(write_page(read_run(make_run(tmp_path / "run", 1, 1))))
    titles = page.run("[...document.querySelectorAll('figcaption')].map((e) => e.textContent)")
    page.run(TEXTS)
    page.look(1000, False)
    page.run("0")  # drawn anew
    texts = page.run("texts")
    for figure, title in enumerate(titles):
        own = [(text, y) for number, text, y in texts if number == figure]
        assert max(own, key=lambda one: one[1])[0] == "iteration", title  # what the axis counts
        own = [one for one in own if one[0] != "iteration"]
        assert [text for text, y in own if y == max(y for _, y in own)] == ["0", "1", "2"], title
    curves = {"Loss": 0, "Throughput": 2, "Gradient norm": 5, "Learning rate": 1}
    for title, colour in curves.items():
        figure = next(n for n, text in enumerate(titles) if text.startswith(title))
        assert drawn(page, figure, colour, 0.45, 0.55) > 9, title
        assert drawn(page, figure, colour, 0, 0.45) == 0, title
    assert titles[1].startswith("Loss beside the baselines")
    assert min(drawn(page, 1, 7, n / 10, (n + 1) / 10) for n in range(10)) > 9
    page.run("document.querySelector('[data-act=whole]').click()")
    assert drawn(page, 0, 0, 0.45, 0.55) > 9
    assert told(page, 1)[0] == 1
    assert [text for text in page.complaints() if not text.startswith("Canvas2D: Mult")] == []
    page.close()


def test_no_line_goes_where_there_is_no_number(browser: Browser, tmp_path: Path) -> None:
    """Of 40 iterations 11, 13 and 14 have none: 12 stands alone, and is a point."""
    run = make_run(tmp_path / "run", 1, 40)
    lines = list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines()))
    for n in (11, 13, 14):
        lines[n - 1]["grad_norm"] = None
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    page = browser.open(write_page(read_run(run)))
    titles = page.run("[...document.querySelectorAll('figcaption')].map((e) => e.textContent)")
    figure = next(n for n, text in enumerate(titles) if text.startswith("Gradient norm"))

    def between(low: float, high: float) -> int:
        return drawn(page, figure, 5, (low - 1) / 39, (high - 1) / 39)

    assert [between(10.2, 11.6), between(12.4, 14.8)] == [0, 0]
    assert min(between(1, 10), between(11.6, 12.4), between(15, 40)) > 9
    page.close()


def test_without_scripts_the_pictures_stay(browser: Browser, one: Path) -> None:
    page = browser.open(one, scripts=False)
    shown = "[...document.images].filter((i) => i.naturalWidth > 0 && i.width > 100).length"
    assert page.now(shown) == 9
    assert page.now("getComputedStyle(document.querySelector('.tools')).display") == "none"
    page.close()


@pytest.mark.skipif(not os.environ.get("AXE"), reason="AXE=…/axe.min.js names no axe-core")
@pytest.mark.parametrize("name", ["one", "five"])
def test_axe_finds_no_violation(
    request: pytest.FixtureRequest, browser: Browser, name: str
) -> None:
    axe = Path(os.environ["AXE"]).read_text()
    page = browser.open(request.getfixturevalue(name))
    page.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    page.now(axe)
    for width, dark in LOOKS:
        page.look(width, dark)
        found = page.run("axe.run().then((r) => r.violations.map((v) => [v.id, v.nodes[0].html]))")
        assert found == []
    page.close()
