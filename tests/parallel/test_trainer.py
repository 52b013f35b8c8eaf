"""The Trainer as others drive it: nothing is read back in a step's middle, and where it goes on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.parallel.driven import LAYOUTS
from tests.parallel.ranks import run_ranks


def test_a_driven_trainer(tmp_path: Path) -> None:
    found = run_ranks(2, Path(__file__).with_name("driven.py"), str(tmp_path))
    for name in LAYOUTS:
        done = found[name]
        assert done.pop("waits") == {}, name
        assert 1 < done.pop("loss") < 3
        cosine = 0.5 * (1 + math.cos(math.pi * 2 / 10))  # of the second of ten iterations
        assert done.pop("rate") == pytest.approx(1e-4 + 9e-4 * cosine)
        assert done == {"iteration": 2, "consumed_samples": 8, "consumed_tokens": 8 * 64}
    # Losses by place: as defined, whichever rank holds which place
    whole, documents = found["as defined"]
    assert list(whole) == ["all", *(f"loss_after_{2**n}" for n in range(7))]
    for name, loss in found["by position"].items():
        expected = documents if "documents" in name else whole
        assert loss == pytest.approx(expected, rel=1e-5), name
    # Nothing of a batch that is not a number on one rank reaches weights or optimizer, on any
    for stage in range(4):
        expected = {"asked": 5, "updated": [False, True, True], "same": [True]}
        if stage == 0:  # and all of it does, where nobody refuses the update
            expected |= {"updated": [False, True, True, True, True], "same": [True, False]}
        assert found[f"refused, zero {stage}"] == expected, stage
    # A token counts as much, wherever a global batch is cut, and as much as it says
    defined, *cuts = found["uneven"].values()
    for cut in cuts:
        assert cut[0] == pytest.approx(defined[0], rel=1e-5)
        assert cut == pytest.approx(cuts[0], rel=1e-5)
    # Each place of each layer drops something else in each micro batch of each step, and nothing in
    # a validation; tensor-parallel ranks drop the same, but of attention's weights
    places = 1 + 2 * 3
    for ranks, alike in zip(found["drawn"], (5, 0), strict=True):
        for seeds in ranks:
            assert seeds["validation"] == []
            both = seeds["first"] + seeds["second"]
            assert [len(seeds["first"]), len(both), len(set(both))] == [2 * places] + [
                4 * places
            ] * 2
        one, other = (set(seeds["first"]) for seeds in ranks)
        assert len(one & other) == 2 * alike
    # The position is what was consumed, not the iteration times this run's batch
    larger = found["larger batch"]
    assert larger["resumed"] == {"iteration": 2, "consumed_samples": 8, "consumed_tokens": 512}
    assert larger["loss"][1] == pytest.approx(larger["loss"][0], rel=1e-6)
    assert larger["too few"] == "1 micro batches, but a step has 4"
    assert not found["loads torch's compiler"]  # a second and 41 MiB a rank
    assert found["imports in vain"] == []  # 1.5 s of CPU and 60 MiB a rank
