"""What docs/plan.md and its picture say of 2023's runs is what is planned for them now."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest

from longseq.__main__ import main

ROOT = Path(__file__).parents[3]
SPEC = importlib.util.spec_from_file_location("lengths", ROOT / "docs/pictures/lengths.py")
assert SPEC is not None
assert SPEC.loader is not None
lengths = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(lengths)


def test_the_longest_sequences() -> None:
    networks, rows = {}, []
    for name, layers in lengths.NETWORKS.items():
        networks[name], some, _ = lengths.lines_of(name, layers)
        rows += some
    assert lengths.stale(rows, networks) == []


def test_the_speeds() -> None:
    """Of three columns, as all eight take long (`python docs/pictures/lengths.py --check`)."""
    page = (ROOT / "docs/plan.md").read_text(encoding="utf-8").splitlines()
    chosen = (2, 8, 128)
    for row in lengths.speed_rows(tuple(n * lengths.K for n in chosen)):
        name, *now = (cell.strip() for cell in row.strip("| ").split(" | "))
        (said,) = (line for line in page if line.startswith(f"| {name} |"))
        cells = said.strip("| ").split(" | ")[1:]
        at = [lengths.LENGTHS.index(n * lengths.K) for n in chosen]
        assert [cells[k].strip() for k in at] == now, name


def labels(picture: Path) -> list[str]:
    return re.findall(r">([^<>]+)</text>", picture.read_text(encoding="utf-8"))


def test_the_printed_commands_give_the_printed_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """GiB of a GPU and of a node's host of the longest of 25B on 32 GPUs, and of two near it; the
    last of them is drawn.
    """
    page = " ".join((ROOT / "docs/plan.md").read_text(encoding="utf-8").split("\n"))
    lines = re.findall(r"(?<=\./longseq\.sh )plan --machine thetagpu .*?(?= \./longseq| ```)", page)
    assert len(lines) == 3
    found = []
    for line in lines:
        assert main(shlex.split(line)) == 0
        text = capsys.readouterr().out
        found.append(re.findall(r"fits: (\S+) of|host memory of a node: (\S+) of", text))
    gpu, host = ([one[k][k] for one in found] for k in (0, 1))
    assert "the three are {}, {} and {} of 39.4 GiB".format(*gpu) in page
    assert "the host, {}, {} and {} of 1,024 GiB".format(*host) in page
    verb, *words = shlex.split(lines[-1])
    assert main([verb, "--picture", str(tmp_path / "plan.svg"), *words]) == 0
    assert labels(tmp_path / "plan.svg") == labels(ROOT / "docs/pictures/plan.svg")


def test_the_simulated_step_is_said_as_drawn_and_as_planned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (ROOT / "docs/simulate.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^\./longseq\.sh simulate (--vocab-size .*)$", page, re.MULTILINE)
    assert main(["plan", "--gpu", "a100-40", "--json", *shlex.split(line)]) == 0
    said = json.loads(capsys.readouterr().out)
    tensors = said["peak_gib"] - said["by_kind"]["context"] - said["by_kind"]["slack"]
    drawn = " ".join(labels(ROOT / "docs/pictures/simulated-step.svg"))
    peak = re.search(r"(\d+\.\d+) GiB at", drawn)
    assert peak is not None
    assert f"peaks at {peak[1]} GiB, {tensors:.2f} by the plan" in page
