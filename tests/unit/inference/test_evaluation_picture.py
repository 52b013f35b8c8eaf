"""What ± is: the same on the terminal, in the picture and in the figures, and said."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from longseq.inference.evaluation.losses import ByPosition
from longseq.inference.evaluation.picture import picture
from longseq.inference.evaluation.told import tell

LOSSES = np.random.default_rng(5).normal(1.4, 0.3, (40, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    found = ByPosition(*(np.zeros(4) for _ in range(3)))
    for row in LOSSES:
        found.add(row)
    codons = {"1": 1.3, "2": 1.4, "3": 1.2, "1, other strand": 1.2, "2, other strand": 1.3}
    return {
        "checkpoint": "RUN_$1/step-60", "evaluated": "valid part", "date": "2026-11-28",
        "letters": 2425, "records": 1, "letters_a_token": 1.0, "by_position": found.bins(),
        "baselines_learned_from_tokens": 9, "by_codon_position": codons,
        "bits_per_letter": {"network": 1.95, "lzma, primed with the training part": 2.2},
    }  # fmt: skip


def test_it_is_one_standard_error_over_so_many(
    figures: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tell(figures)
    told = capsys.readouterr().out
    assert "± one standard error of the mean over so many tokens\n" in told
    rows = re.findall(r"  ([\d.]+) ± ([\d.]+) +(\d+)\n", told)
    expected = []
    for at in (LOSSES[:, :1], LOSSES[:, 1:2], LOSSES[:, 2:]):
        bits = at.astype(np.float64).ravel() / math.log(2)
        expected.append((bits.mean(), bits.std() / len(bits) ** 0.5, len(bits)))
    for row, (mean, error, count) in zip(rows, expected, strict=True):
        assert [float(cell) for cell in row] == pytest.approx([mean, error, count], abs=6e-5)
    drawn = picture(figures)
    assert "(± one standard error)" in drawn
    bars = re.findall(
        r'<path d="M ([\d.]+) ([\d.]+)\s+L \1 ([\d.]+)\s*"[^>]*stroke: #2f6fdb', drawn
    )
    heights = [abs(float(low) - float(high)) for _, low, high in bars[:3]]
    for height, (_, error, _) in zip(heights, expected, strict=True):
        assert height / heights[0] == pytest.approx(error / expected[0][1], rel=1e-4)
    curve = re.findall(r'<path d="M ([^"]*)" clip-path[^>]*stroke: #2f6fdb', drawn)
    ys = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", curve[-1])]
    a_bit = (ys[0] - ys[1]) / (expected[1][0] - expected[0][0])
    assert heights[0] / 2 == pytest.approx(expected[0][1] * a_bit, rel=1e-3)


def test_the_picture_says_whose_it_is_and_needs_no_colour(figures: dict[str, Any]) -> None:
    drawn = picture(figures)
    told = re.findall(r">([^<>\n]+)</t", drawn)
    assert "RUN_$1/step-60" in told
    assert "on valid part: 2,425 letters, 2026-11-28" in told
    strands = re.findall(r'<path d="[^"]*" clip-path[^>]*stroke: #(?:2a9d6e|7a5cc4)[^>]*', drawn)
    assert len({re.sub(r".*fill: none|stroke: #\w+", "", one) for one in strands}) == 2


@pytest.mark.parametrize(("gain", "said"), [(-0.023, "0.0230 nats a codon below"), (0.5, "above")])
def test_a_score_of_genes_below_their_shuffled_ones_is_so_called(
    gain: float, said: str, figures: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    of = {"compared": 2, "scored_above_shuffled": 0, "nats_a_codon_above_shuffled": gain}
    tell(figures | {"genes": of})
    told = capsys.readouterr().out
    assert "shuffled: 0 of 2, on average " in told
    assert said in told
