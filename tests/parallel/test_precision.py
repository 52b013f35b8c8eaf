"""bf16 gives the same numbers at all ZeRO stages, on every axis, and those of fp32 nearly.

Without clipping the losses are equal to the last bit: the norm is summed in another order at each
stage, and a clipping factor that differs in its last bit flips the rounding of some weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.parallel.ranks import operator_is_built, run_ranks

STEPS = "6"
BASE = ["--use-rotary-position-embeddings", "--use-flash-attn-sdpa", "--num-layers", "2", "--bf16"]
AXES = {
    "dp": [],
    "dp, accumulated": ["--global-batch-size", "4"],
    "ulysses": ["--ds-sequence-parallel-size", "2"],
    "tp, split": ["--tensor-model-parallel-size", "2", "--sequence-parallel"],
}
FREE = ["--clip-grad", "0"]
STAGES = {
    "dp": (0, 1, 2, 3),
    "dp, accumulated": (0, 1, 2, 3),
    "ulysses": (0, 2),
    "tp, split": (0, 3),
}
OFFLOADED = {
    "optimizer 1": ["--zero-stage", "1", "--cpu-optimizer"],
    "optimizer 3": ["--zero-stage", "3", "--cpu-optimizer"],
    "parameters 3": ["--zero-stage", "3", "--cpu-optimizer", "--remote-device", "cpu"],
}
FILES = {
    "optimizer in files": ["--zero-stage", "3", "--nvme-optimizer"],
    "both in files": ["--zero-stage", "3", "--nvme-optimizer", "--remote-device", "nvme"],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Any:
    cases = {"fp32": BASE[:-1], "clipped 0": BASE, "clipped 3": [*BASE, "--zero-stage", "3"]}
    for axis, stages in STAGES.items():
        for stage in stages:
            flags = [*BASE, *FREE, *AXES[axis], "--zero-stage", str(stage)]
            cases[f"{axis} {stage}"] = flags
    for name, flags in OFFLOADED.items():
        cases[name] = [*BASE[:-1], *flags]
    disk = tmp_path_factory.mktemp("disk")
    if operator_is_built():
        for name, flags in FILES.items():
            cases[name] = [*BASE[:-1], *flags, "--nvme-path", str(disk)]
    program = Path(__file__).with_name("losses.py")
    cache = str(tmp_path_factory.mktemp("cache"))
    found = run_ranks(2, program, json.dumps(cases), STEPS, LONGSEQ_CACHE=cache)
    assert list(disk.glob("longseq-offload-*")) == []
    return found


@pytest.mark.parametrize(
    ("axis", "stage"), [(a, s) for a, stages in STAGES.items() for s in stages[1:]]
)
def test_all_stages_give_the_same_bits(axis: str, stage: int, results: Any) -> None:
    expected, found = results[f"{axis} 0"], results[f"{axis} {stage}"]
    assert found["losses"] == expected["losses"]
    assert found["norms"] == pytest.approx(expected["norms"], rel=1e-5)


def test_three_replicas_give_the_same_bits(tmp_path: Path) -> None:
    """A half is exact in bf16, a third is not. One layer: three ranks share two cores.

    Three steps: of six, with two micro batches at stage 2, sums in another order had rounded a
    weight the other way for 7 of 20 seeds.
    """
    flags = [*BASE, *FREE, "--num-layers", "1", "--lr", "1e-2", "--global-batch-size"]
    cases = {
        f"{batch}, {stage}": [*flags, batch, "--zero-stage", stage]
        for batch in ("3", "6")
        for stage in "012"
    }
    program = Path(__file__).with_name("losses.py")
    found = run_ranks(3, program, json.dumps(cases), "3", LONGSEQ_CACHE=str(tmp_path))
    for batch in ("3", "6"):
        expected = found[f"{batch}, 0"]
        for stage in "12":
            assert found[f"{batch}, {stage}"]["losses"] == expected["losses"]
            # Three ranks' sums in another order round a bf16 gradient the other way, now and then:
            # 6e-6 on one machine, nothing on others. Rounded once more, the norm is off by 4e-4.
            assert found[f"{batch}, {stage}"]["norms"] == pytest.approx(expected["norms"], rel=3e-5)


def test_clipped_stages_agree(results: Any) -> None:
    first, last = results["clipped 0"], results["clipped 3"]
    assert first["losses"] == pytest.approx(last["losses"], abs=1e-3)
    assert first["norms"] == pytest.approx(last["norms"], rel=1e-2)


def test_near_fp32(results: Any) -> None:
    assert results["clipped 0"]["losses"] == pytest.approx(results["fp32"]["losses"], abs=2e-2)


@pytest.mark.parametrize("name", [*OFFLOADED, *FILES])
def test_offload_changes_no_number(name: str, results: Any) -> None:
    if name in FILES and not operator_is_built():
        pytest.skip("async_io is not built: a run with OFFLOAD_DEVICE=nvme builds it, once")
    assert results[name]["losses"] == pytest.approx(results["fp32"]["losses"], rel=0, abs=1e-5)
    assert results[name]["norms"] == pytest.approx(results["fp32"]["norms"], rel=1e-4)
