"""No rank ever holds the whole sequence, outside what an algorithm must gather.

s = 10,240 tokens, h = 64, fp32, 2 ranks. What must be: Ulysses holds all tokens of half of the
heads, tensor parallelism likewise, a ring s/2 tokens of keys and values in one message.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.parallel.ranks import run_ranks

S, H = 10240, 64  # a length that is no size of a weight or a tile
WHOLE = 4 * S * H  # bytes of the hidden states of the whole sequence
FULL = ["--recompute-granularity", "full"]
OUTSIDE = ["--recompute-granularity", "outside-attention"]
ROTARY = ["--use-rotary-position-embeddings"]
TP = ["--tensor-model-parallel-size", "2", "--sequence-parallel"]
ULYSSES = ["--ds-sequence-parallel-size", "2"]
RING = ["--context-parallel-size", "2"]
CASES = {
    "tp, split": [*ROTARY, *TP, *FULL],
    "tp, split, outside": [*ROTARY, *TP, *OUTSIDE],
    "tp, split, learned": [*TP, *FULL],
    "ulysses": [*ROTARY, *ULYSSES, *FULL],
    "ulysses, outside": [*ROTARY, *ULYSSES, *OUTSIDE],
    "ulysses, learned": [*ULYSSES, *FULL, "--zero-stage", "3"],
    "ring": [*ROTARY, *RING, *FULL],
    "ring, outside": [*ROTARY, *RING, *OUTSIDE],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Any:
    cache = str(tmp_path_factory.mktemp("cache"))
    program = Path(__file__).with_name("largest.py")
    return run_ranks(2, program, json.dumps(CASES), LONGSEQ_CACHE=cache)


@pytest.mark.parametrize("name", CASES)
def test_largest_tensor(name: str, results: Any) -> None:
    found = results[name]
    if "ring" in name:
        assert found["largest"] <= WHOLE
        assert found["longest"] == 0
    else:
        # Of learned positions ZeRO keeps half of all weights in one flat piece
        assert found["largest"] <= (0.6 if "learned" in name else 0.5) * WHOLE
        assert found["longest"] <= WHOLE // 2


@pytest.mark.parametrize("name", ["ulysses", "ring"])
def test_a_rank_reads_its_own_tokens(name: str, results: Any) -> None:
    """Tokens, labels and positions of s/2 tokens in int64 and what makes them, not of s."""
    assert results[name]["batch"] < S // 2 * 8 * 8
    assert results[name]["batch"] < 0.7 * results["tp, split"]["batch"]
