"""Which checkpoint a run may go on from."""

from dataclasses import replace
from pathlib import Path

import pytest

from longseq.checkpoint.fit import check_fit, network
from longseq.config.checks import parse_config
from longseq.errors import UserError
from tests.faults.small_engine import manifest_of

PATH = Path("run/checkpoints/step-20")


def test_not_one_that_is_beyond_the_runs_end() -> None:
    """A run that ends where it is has nothing left to do: a chain's job may come twice."""
    words = "--num-layers 2 --hidden-size 32 --num-attention-heads 4 --device cpu".split()
    for iterations in (20, 21):
        config = parse_config([*words, "--train-iters", str(iterations)], 1)
        manifest = replace(manifest_of(20), network=network(config.network))
        check_fit(PATH, manifest, config)
    short = parse_config([*words, "--train-iters", "5"], 1)
    with pytest.raises(UserError) as raised:
        check_fit(PATH, manifest, short)
    assert str(raised.value) == (
        "--load run/checkpoints/step-20 (LOAD) is of iteration 20, and --train-iters 5"
        " (TRAIN_ITERS) ends before it: give more iterations, or an earlier checkpoint"
    )
