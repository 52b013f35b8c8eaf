"""Gaps and FLOPs of a profile, of spans and counts that are known; its trace, as Perfetto reads."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from longseq.training.profile import Profile, flops_text, gaps, gaps_text

SPANS = [
    (0.0, 1000.0, "a"),
    (400.0, 3000.0, "b"),  # overlaps, and ends later
    (3500.0, 4000.0, "c"),
    (500.0, 600.0, "inside"),
    (9000.0, 9500.0, "d"),
]


def test_gaps_are_where_nothing_ran() -> None:
    assert gaps(SPANS) == [(5000.0, 4000.0, "c", "d"), (500.0, 3000.0, "b", "c")]
    assert gaps(SPANS, most=1) == [(5000.0, 4000.0, "c", "d")]
    assert gaps([]) == []
    lines = gaps_text(SPANS).splitlines()
    assert lines[1].split() == ["5.000", "4.000", "c", "and", "d"]
    assert lines[-1] == "of 9.500 ms"
    assert gaps_text([]) == "nothing ran\n"


def test_flops_are_by_part_of_the_network() -> None:
    counts = {
        "Global": {"mm": 60, "bmm": 40},
        "DeepSpeedEngine.module.layers.0": {"mm": 60},
        "DeepSpeedEngine.module.head": {"bmm": 40},
        "DeepSpeedEngine.module.layers.0.mlp_dropout": {"mm": 60},
        "DeepSpeedEngine.module.norm": {},
    }
    assert [line.split() for line in flops_text(counts).splitlines()] == [
        ["100", "100%", "the", "whole", "step"],
        ["40", "40.0%", "head"],
        ["60", "60.0%", "layers.0"],
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a profile of a small layer leaves."""
    found = tmp_path_factory.mktemp("run") / "profile"
    profile = Profile(found, 0, torch.device("cpu"), 1)
    layer = torch.nn.Linear(8, 4)
    for iteration in range(1, 8):
        with profile.around(iteration):
            layer(torch.ones(2, 8)).sum().backward()
    assert profile.said == f"profile of iterations 3 to 5: {found}"
    return found


def is_time(value: Any) -> bool:
    return type(value) in (int, float) and value >= 0


def test_the_trace_is_one_that_perfetto_reads(folder: Path) -> None:
    """Chrome's Trace Event Format: which fields each phase has, and slices of a thread that stand
    within each other or apart, as others are dropped.
    """

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = (folder / "rank0.json").read_text(encoding="utf-8")
    events = json.loads(text, parse_constant=refuse)["traceEvents"]
    needed = {"X": "name ts dur pid tid", "M": "name pid args", "i": "name ts s", "s": "id ts cat",
              "f": "id ts cat"}  # fmt: skip
    slices: dict[tuple[Any, Any], list[tuple[float, float]]] = {}
    for event in events:
        assert set(needed[event["ph"]].split()) <= set(event), event
        assert all(is_time(event[key]) for key in ("ts", "dur") if key in event), event
        assert isinstance(event["name"], str)
        if event["ph"] == "X" and event["cat"] != "Trace":
            begin, end = event["ts"], event["ts"] + event["dur"]
            slices.setdefault((event["pid"], event["tid"]), []).append((begin, end))
    flows = {phase: sorted(e["id"] for e in events if e["ph"] == phase) for phase in "sf"}
    assert flows["s"] == flows["f"] != []
    named = {event["pid"] for event in events if event["name"] == "process_name"}
    assert {process for process, _ in slices} <= named
    for spans in slices.values():
        inside: list[float] = []
        for begin, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            while inside and inside[-1] <= begin:
                inside.pop()
            assert not inside or end <= inside[-1] + 1e-3
            inside.append(end)


def test_the_trace_is_of_three_iterations_by_name(folder: Path) -> None:
    events = json.loads((folder / "rank0.json").read_text(encoding="utf-8"))["traceEvents"]
    names = [e["name"] for e in events if e["ph"] == "X" and e["name"].startswith("iteration ")]
    assert sorted(names) == ["iteration 3", "iteration 4", "iteration 5"]
    assert sum(e["name"] == "aten::addmm" for e in events) == 3


def test_the_flops_are_those_of_the_layer(folder: Path) -> None:
    """2 x 2 x 8 x 4 forward, as many for the weights' gradient; its input has none."""
    first = (folder / "flops.txt").read_text().splitlines()[0]
    assert first.split()[0] == "256"
