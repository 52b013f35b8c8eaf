"""What a page tells in tables, of numbers that are written out here."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from longseq.host.gpus import gpu_of
from longseq.reports import curves, sections
from longseq.reports.runs import RunRecord

GIB = 2**30


def run_of(tmp_path: Path, *records: dict[str, Any], **more: Any) -> RunRecord:
    numbered = [{"iteration": n, **record} for n, record in enumerate(records, 1)]
    return RunRecord(tmp_path, numbered, **more)


def test_memory_is_held_against_what_there_is(tmp_path: Path) -> None:
    planned = {"weights": GIB, "kept for backward": 2 * GIB, "logits": 2**20}
    summary = {"memory": {"planned": planned, "capacity": 8 * GIB, "moment": "the head"}}
    records = [{"measured_memory_gib": 2.5, "peak_memory_gib": 4.0}, {"most_memory_gib": 5.0}]
    assert sections.memory(run_of(tmp_path, *records, summary=summary)) == [
        ("kept for backward", "2.00 GiB, 25.0%", 0.25),
        ("weights", "1.00 GiB, 12.5%", 0.125),
        ("logits", "1.0 MiB, 0.0%", 2**-13),
        ("planned in all", "3.00 GiB, 37.5%, in the head", 0.375 + 2**-13),
        ("measured in the first steps", "2.50 GiB, 31.2%", 0.3125),
        ("peak of rank 0, libraries too", "4.00 GiB, 50.0%", 0.5),
        ("peak of the rank with the most", "5.00 GiB, 62.5%", 0.625),
        ("available", "8.00 GiB a rank"),
    ]
    assert sections.memory(run_of(tmp_path, {})) == []
    killed = [*records, {"peak_memory_gib": 6.0, "least_memory_gib": 3.0}]  # since the last look
    run = run_of(tmp_path, *killed, summary=summary)
    assert ("peak of the rank with the most", "6.00 GiB, 75.0%", 0.75) in sections.memory(run)
    assert sections.ranks(run) == [("peak memory", "3.00 to 6.00 GiB (rank 0)")]
    before = [{"iteration": 0, "least_memory_gib": 8.0, "most_memory_gib": 8.0}]  # of more ranks
    alone = run_of(tmp_path, records[0], summary=summary, history=before)
    assert [row[1] for row in sections.memory(alone)][-2:] == ["4.00 GiB, 50.0%", "8.00 GiB a rank"]
    assert sections.ranks(alone) == []


def test_where_the_time_goes_has_validations_and_checkpoints(tmp_path: Path) -> None:
    parts = {f"{part}_seconds": 1.0 for part in ("data", "forward", "backward", "update")}
    step = {"iteration_time": 4.0, **parts}
    save = {"checkpoint_seconds": 9.0, "checkpoint_seconds_waited": 2.0}
    records: list[dict[str, Any]] = [step, step | {"validation_seconds": 4.0}, step | save | {
        "checkpoints_before": [{"checkpoint_seconds": 3.0, "checkpoint_seconds_waited": 2.0}]
    }]  # fmt: skip
    *each, tried, saved = sections.parts(run_of(tmp_path, *records))
    assert [row[0] for row in each] == ["data", "forward", "backward", "update"]
    assert each[0] == ("data", "1 s, 25.0%", 0.25)
    assert tried == ("validation", "1 time, 4 s: 20.0% of the run", 0.2)  # 12 + 4 + 4 seconds
    assert saved == ("checkpoints", "2, 9 s at most; training stood 4 s: 20.0% of the run", 0.2)


def test_what_was_chosen_says_why(tmp_path: Path) -> None:
    told = {"opening": [["attention", "sdpa"], ["memory", "all"], ["", "more"]]}
    reasons = {"attention": "the first of all", "memory": "", "": None}
    assert sections.opening(run_of(tmp_path, {}, summary=told | {"reasons": reasons})) == [
        ("attention", "sdpa: the first of all"),
        ("memory", "all"),
        ("", "more"),
    ]
    assert sections.opening(run_of(tmp_path, {}, summary=told))[0] == ("attention", "sdpa")


def test_values_are_of_what_happened_too(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [{"lm_loss": 1.0} for _ in range(400)]
    records[122] |= {"lm_loss": 9.0, "event": "a spike"}
    run = run_of(tmp_path, *records)
    rows = sections.values(run, curves.one_run(run)).rows
    assert ["123", "9"] in rows
    assert len(rows) <= sections.ROWS + 2


def test_losses_that_are_no_number_are_said(tmp_path: Path) -> None:
    """Their curves have gaps, or are not there."""
    none: list[dict[str, Any]] = [{"lm_loss": None, "validation_loss": None}] * 50
    run = run_of(tmp_path, *none)
    assert "Loss" not in [chart["title"] for chart in curves.one_run(run)["charts"]]
    assert sections.happened(run) == [
        ("loss", "no number in 50 of 50 iterations, since iteration 1"),
        ("loss", "no number in 50 of 50 validations, since iteration 1"),
    ]
    good: list[dict[str, Any]] = [{"lm_loss": 1.0}, {}, {"lm_loss": 1.0, "validation_loss": 1.0}]
    assert sections.happened(run_of(tmp_path, *good)) == []
    said = sections.happened(run_of(tmp_path, *good, {"lm_loss": math.nan}, *good))
    assert said == [("loss", "no number in 1 of 5 iterations, at 4")]
    said = sections.happened(run_of(tmp_path, none[0], *good, none[0], good[0]))
    assert said == [
        ("loss", "no number in 2 of 5 iterations, from 1 to 5"),
        ("loss", "no number in 2 of 3 validations, since iteration 1"),
    ]


def test_settings_that_are_alike_share_a_row() -> None:
    ranks = [{"host": "a", "cpus": "0-1", "gpu": ""}] * 3 + [{"host": "b", "near": None}]
    assert sections.flat({"ranks": ranks, "gpus": []}) == [
        ("ranks 0-2", "host a, cpus 0-1"),
        ("ranks 3", "host b"),
        ("gpus", ""),
    ]


def test_data_and_ranks(tmp_path: Path) -> None:
    lengths = {"shortest": 10, "longest": 4000}
    sets = [{"name": "genes", "documents": 1200, "tokens": 50_000, "lengths": lengths}]
    summary = {"data": {"sets": sets, "parts": {"train": {"tokens": 40_000, "fill": 0.5}}}}
    looks = {"least_memory_gib": 1.0, "most_memory_gib": 2.0, "most_memory_rank": 3}
    run = run_of(tmp_path, {"consumed_tokens": 60_000} | looks, summary=summary)
    assert sections.data(run) == [
        ("data set", "genes: 1,200 documents, 50,000 tokens"),
        ("lengths in tokens", "shortest 10, longest 4,000"),
        ("train", "40,000 tokens an epoch; 50.0% of the places in samples count"),
        ("trained on", "60,000 tokens, 1.50 epochs"),
    ]
    assert sections.ranks(run) == [("peak memory", "1.00 to 2.00 GiB (rank 3)")]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("NVIDIA H100 80GB HBM3, 81559 MiB, 570.86", "h100"),
        ("NVIDIA GH200 480GB, 97871 MiB, 550.1", "h100-96"),
        ("NVIDIA H200, 143771 MiB, 570.86", "h200"),
        ("NVIDIA A100-SXM4-40GB, 40960 MiB, 470", "a100-40"),
        ("NVIDIA A100 80GB PCIe, 81920 MiB, 470", "a100-80"),
        ("Tesla V100-SXM2-16GB, 16384 MiB, 470", "v100-16"),
        ("NVIDIA H100 PCIe, 81559 MiB, 570.86", None),  # another clock, another peak
        ("NVIDIA RTX A6000, 49140 MiB, 570", None),
        ("no GPU", None),
    ],
)
def test_a_gpu_is_known_by_its_name(line: str, name: str | None) -> None:
    found = gpu_of(line)
    assert (found.name if found else None) == name


def test_mfu_where_the_peak_is_known(tmp_path: Path) -> None:
    def run(gpus: list[str], bf16: bool, device: str) -> RunRecord:
        summary = {
            "settings": {"training": {"bf16": bf16}},
            "opening": [["precision", f"bf16, ZeRO stage 1, on {device}"]],
        }
        speed = {"model_tflops": 989 * 0.43}
        return run_of(tmp_path, speed, summary=summary, environment={"gpus": gpus})

    h100 = "NVIDIA H100 80GB HBM3, 81559 MiB, 570.86"
    share, what = sections.utilization(run([h100] * 8, True, "cuda"))
    assert share == "43.0%"
    assert what == "MFU: of the 989 TFLOPS in bf16 of H100 80 GB"
    others = [run([h100], True, "cpu"), run([h100], False, "cuda"), run(["x"], True, "cuda")]
    assert [sections.utilization(each) for each in others] == [("", "")] * 3


def test_losses_by_place_are_of_the_first_the_middle_and_the_last(tmp_path: Path) -> None:
    records = [
        {f"loss_after_{n}": 2.0 - at / 10 for n in (4, 1, 2)} | {"loss_after_x": 1.0}
        for at in range(5)
    ]
    found = run_of(tmp_path, {}, *records).by_place()
    assert list(found) == [2, 4, 6]
    assert found[4] == [(1, 1.8), (2, 1.8), (4, 1.8)]
    assert json.dumps(run_of(tmp_path, {}).by_place()) == "{}"
