"""Gaps and FLOPs of a profile, of spans and counts that are known; its trace, as Perfetto reads."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from longseq.training.profile import Profile, gaps, gaps_text, spans_of

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a profile of a small layer leaves."""
    found = tmp_path_factory.mktemp("run") / "profile"
    said = run(found, 7)
    assert said == [f"profile of iterations 3 to 5: {found}"]
    return found


def run(folder: Path, steps: int, first: int = 1) -> list[str]:
    """What is said of a profile of so many steps of a small layer."""
    said: list[str] = []
    layer = torch.nn.Linear(8, 4)
    profile = Profile(folder, 0, "cpu", layer, "sdpa", said.append)
    for iteration in range(first, first + steps):
        with profile.around(iteration):
            layer(torch.ones(2, 8)).sum().backward()
    profile.close()
    return said


def test_a_run_that_ends_early_writes_what_it_traced_and_says_so(tmp_path: Path) -> None:
    said = run(tmp_path / "four", 4, first=9)
    short = "the run made 4 of the 6 iterations that a profile takes"
    assert said == [
        f"profile of iterations 11 to 12: {tmp_path / 'four'}, without flops.txt: {short}"
    ]
    assert sorted(x.name for x in (tmp_path / "four").iterdir()) == ["gaps.txt", "rank0.json"]
    assert run(tmp_path / "two", 2) == [
        "--profile (PROFILE=1): nothing was profiled: "
        "the run made 2 of the 6 iterations that a profile takes"
    ]
    assert not (tmp_path / "two").exists()


def test_what_computed_is_found_in_a_trace() -> None:
    """A GPU's kernels and copies, not the iteration that people have named, which covers them."""
    kinds = ("cpu_op", "kernel", "gpu_memcpy", "gpu_user_annotation", "cuda_runtime", "cpu_op")
    names = ("aten::mm", "gemm", "Memcpy", "iteration 3", "cudaLaunchKernel", "iteration 3")
    events: list[dict[str, Any]] = [
        {"ph": "X", "cat": kind, "name": name, "ts": 10.0 * n, "dur": 5.0}
        for n, (kind, name) in enumerate(zip(kinds, names, strict=True))
    ]
    events.append({"ph": "M", "name": "process_name"})
    assert spans_of(events, "cpu") == [(0.0, 5.0, "aten::mm")]
    assert spans_of(events, "cuda") == [(10.0, 15.0, "gemm"), (20.0, 25.0, "Memcpy")]


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
