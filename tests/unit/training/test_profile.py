"""Gaps and FLOPs of a profile, of spans and counts that are known."""

from longseq.training.profile import flops_text, gaps, gaps_text

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
