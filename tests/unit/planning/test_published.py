"""What is planned for runs that others have published, against what they measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.anchors.published import COLUMNS, judge, read, summary
from benchmarks.predicted import Unpredictable

ROOT = Path(__file__).resolve().parents[3]
TABLE = ROOT.parent / "shared/anchors/published.csv"
ELSEWHERE = ROOT / "benchmarks/anchors/elsewhere.csv"


def row(**said: str) -> dict[str, str]:
    return dict.fromkeys(COLUMNS, "") | said


LONG = row(
    id="1", system="Megatron-DeepSpeed new", layers="64", hidden="6144", heads="64",
    seq_len="192000", gpus="32", gpu="A100", gpu_mem_gb="40", result_kind="max_seq",
    value="192", unit="k tokens", fits="max",
)  # fmt: skip


def test_a_row_is_planned() -> None:
    """The seed table's longest sequence of 25B on 32 GPUs, from its README."""
    found = judge(LONG)
    assert (found.run.job.tp, found.run.job.sequence_parallel) == (32, True)
    assert found.value == pytest.approx(192, rel=0.15)
    assert found.misses == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"system": "Nobody's"}, "what Nobody's keeps is not described"),
        ({"layers": ""}, "dimensions are not stated"),
        ({"seq_len": ""}, "the length is not stated"),
        ({"gpu": "Z9"}, "nothing is known of a Z9"),
        ({"gpus": "some"}, "a number of the row is none"),
        ({"system": "NeMo"}, "the layout is not stated"),
        ({"tp": "7"}, "32 GPUs are no multiple"),
    ],
)
def test_what_cannot_be_planned_says_why(change: dict[str, str], said: str) -> None:
    with pytest.raises(Unpredictable, match=said):
        judge(LONG | change)


@pytest.mark.skipif(not TABLE.is_file(), reason="the published table is not here")
def test_the_published_table_is_met() -> None:
    found = []
    for one in read(TABLE):
        try:
            found.append(judge(one))
        except Unpredictable:
            continue
    figures = summary(found)
    assert len(found) > 200
    assert figures["fits"] >= 0.95
    assert figures["memory"] <= 0.10
    assert figures["speed"] <= 0.25
    assert figures["longest"] <= 0.15


def test_rows_that_no_description_was_made_with_are_met() -> None:
    found = [judge(one) for one in read(ELSEWHERE)]
    assert len(found) == 127
    figures = summary(found)
    assert figures["fits"] >= 0.9
    assert figures["speed"] <= 0.1
