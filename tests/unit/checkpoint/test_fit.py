"""Which checkpoint a run may go on from: of its network, and not beyond the run's end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from longseq.checkpoint.fit import check_fit, network, same_network
from longseq.checkpoint.format.manifest import Manifest
from longseq.config.checks import parse_config
from longseq.config.network import Network
from longseq.errors import UserError
from tests.faults.small_engine import manifest_of

PATH = Path("run/checkpoints/step-20")


def test_not_one_that_is_beyond_the_runs_end() -> None:
    """A run that ends where it is has nothing left to do: a chain's job may come twice."""
    words = "--num-layers 2 --hidden-size 32 --num-attention-heads 4 --device cpu".split()
    for iterations in (20, 21):
        config = parse_config([*words, "--train-iters", str(iterations)], 1)
        before = replace(manifest_of(20), network=network(config.network))
        check_fit(PATH, before, config)
    short = parse_config([*words, "--train-iters", "5"], 1)
    with pytest.raises(UserError) as raised:
        check_fit(PATH, before, short)
    assert str(raised.value) == (
        "--load run/checkpoints/step-20 (LOAD or RESUME) is of iteration 20, and --train-iters 5"
        " (TRAIN_ITERS) ends before it: give more iterations, or an earlier checkpoint"
    )


def manifest(net: Network) -> Manifest:
    return Manifest({"iteration": 1}, network(net), "adam", 16, "nucleotide", {}, {})


@pytest.mark.parametrize("rotary", [True, False])
def test_the_base_of_rotary_frequencies_counts_where_there_are_some(rotary: bool) -> None:
    flags = ["--use-rotary-position-embeddings"] if rotary else []
    config = parse_config(flags, 1)
    path, now = Path("step-1"), manifest(config.network)
    before = manifest(replace(config.network, rope_theta=5e5))
    check_fit(path, now, config)
    if rotary:
        with pytest.raises(UserError, match="rope_theta=500000"):
            check_fit(path, before, config)
        with pytest.raises(UserError, match="differ in rope_theta"):
            same_network(path, before, path, now)
    else:
        check_fit(path, before, config)
        same_network(path, before, path, now)


def test_another_optimizer_may_begin_anew() -> None:
    """From the weights alone; not with another network."""
    config = parse_config(["--optimizer", "sgd"], 1)
    before = manifest(config.network)
    remedy = (
        r"or with the weights alone: \./longseq\.sh checkpoint convert run/checkpoints/step-20"
        r" --output FOLDER --weights-only, then LOAD=FOLDER\Z"
    )
    with pytest.raises(UserError, match=rf"optimizer=sgd: use the same flags, {remedy}"):
        check_fit(PATH, before, config)
    other = manifest(replace(config.network, swiglu=True))
    with pytest.raises(UserError, match="optimizer=sgd: use the same flags, or start anew without"):
        check_fit(PATH, other, config)
    check_fit(PATH, replace(before, optimizer=""), config)
