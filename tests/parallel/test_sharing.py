"""Two ranks on one device, as tests/gpu/sharing.py proves them on a GPU: here its wiring.

Messages go through copies, as they do for a GPU's tensors, and one case fails on purpose.
"""

from __future__ import annotations

from typing import Any

from tests.gpu import sharing
from tests.gpu.results import Results
from tests.gpu.sharing import AXES, COMMON, SIZES
from tests.parallel.losses import GENOME

BASE = [*f"{COMMON} {SIZES[True]} --device cpu --bf16".split(), "--data-path", GENOME]
HOW = {"device": "cpu", "backend": "gloo"}
TRIED = ("tensor and sequence parallel", "data parallel, ZeRO 2", "data parallel, ZeRO 3")


def test_messages_through_host_memory_change_no_number() -> None:
    one: dict[str, dict[str, Any]] = {}
    assert not sharing.run_ranks(1, {**HOW, "cases": {"": BASE}}, one.__setitem__)
    cases = {f"{axis}, bf16": [*BASE, *AXES[axis].split()] for axis in TRIED}
    cases["broken, bf16"] = [*BASE, "--data-path", "/nowhere"]
    results = Results(None)
    said = sharing.run_ranks(
        2, {**HOW, "cases": cases}, lambda case, two: sharing.compare(results, case, one[""], two)
    )
    assert "/nowhere" in said
    assert [row["what"] for row in results.rows] == list(cases)[:-1]
    assert {row["verdict"] for row in results.rows} == {"ok"}
