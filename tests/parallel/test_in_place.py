"""ZeRO stage 3 builds the network in place: no rank ever holds more than its share and one
parameter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.parallel.ranks import run_ranks

NETWORK = (
    "--num-layers 6 --hidden-size 128 --num-attention-heads 4 --seq-length 64 --device cpu"
    " --use-rotary-position-embeddings"
).split()
LARGEST = 4 * 4 * 128 * 128  # bytes of the widest matrix


@pytest.fixture(scope="module")
def built() -> Any:
    return run_ranks(2, Path(__file__).with_name("held.py"), *NETWORK)


@pytest.mark.parametrize(("stage", "parts"), [("3", 2), ("0", 1)])
def test_peak_of_parameters(stage: str, parts: int, built: Any) -> None:
    """Stage 0 is there to show that the count sees a whole network."""
    found = built[stage]
    share = found["whole"] / parts
    for held in found["held"]:
        # Besides its share: one parameter whole, its draw, and some for the message that cuts it
        assert 0.9 * share < held < share + 3 * LARGEST
    assert found["parameters"] == 6 * 12 + 3
