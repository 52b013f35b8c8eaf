"""Which step's update is not made, by policy, and that all ranks do the same."""

import json
import math

import pytest

from longseq.parallel.agreement import Ranks
from longseq.run.safety.spikes import LEAST, MOST, Spikes

ALONE = Ranks()


def used(policy: str, factor: float = 2.0, window: int = 50) -> Spikes:
    """One that has seen losses around 1."""
    spikes = Spikes(policy, factor, window, ALONE)
    for number in range(LEAST):
        assert spikes.may_update(1.0 + number / 100, 0.5)
        assert spikes.trouble is None
    return spikes


@pytest.mark.parametrize(
    ("policy", "spike", "nan"),
    [
        ("warn", (True, "warn"), (False, "stop")),
        ("skip", (False, "skip"), (False, "skip")),
        ("rewind", (False, "rewind"), (False, "rewind")),
        ("stop", (False, "stop"), (False, "stop")),
    ],
)
def test_what_is_done(policy: str, spike: tuple[bool, str], nan: tuple[bool, str]) -> None:
    for loss, norm, expected in ((2.2, 1.0, spike), (math.nan, 1.0, nan), (1.0, math.inf, nan)):
        spikes = used(policy)
        assert spikes.may_update(loss, norm) is expected[0]
        assert spikes.trouble
        assert spikes.trouble.action == expected[1]


def test_what_is_said() -> None:
    spikes = used("skip", window=4)
    assert not spikes.may_update(3.3, 1.0)
    assert spikes.trouble
    assert spikes.trouble.text == "the loss 3.3 is 3.07 times the median 1.075 of the last 4"
    assert not spikes.may_update(1.0, math.nan)
    assert spikes.trouble.text == "the gradient's norm is nan"


@pytest.mark.parametrize(
    ("usual", "loss", "factor", "said"),
    [
        (1.3884, 1.3948, 1.001, "the loss 1.3948 is 1.005 times the median 1.3884 of the last 4"),
        (2.0, 2.00004, 1.00001, "the loss 2.00004 is 1.00002 times the median 2 of the last 4"),
        (2.0, 2.2, 1.09, "the loss 2.2 is 1.1 times the median 2 of the last 4"),
    ],
)
def test_what_is_said_bears_it_out(usual: float, loss: float, factor: float, said: str) -> None:
    """Not "1 times"."""
    spikes = Spikes("skip", factor, 4, ALONE)
    assert all(spikes.may_update(usual, 1.0) for _ in range(4))
    assert not spikes.may_update(loss, 1.0)
    assert spikes.trouble
    assert spikes.trouble.text == said


def test_a_spike_that_was_left_out_is_no_measure_for_the_next() -> None:
    spikes = used("skip", window=4)
    for _ in range(3):
        assert not spikes.may_update(9.0, 1.0)
    assert spikes.may_update(1.5, 1.0)


@pytest.mark.parametrize("policy", ["warn", "skip", "rewind", "stop"])
def test_a_step_in_which_no_label_counts_is_no_measure(policy: str) -> None:
    """Its loss and its norm are 0. Most are such in a genome of repeats that count nothing."""
    spikes = used(policy, window=20)
    for number in range(60):
        assert spikes.may_update(*((0.0, 0.0) if number % 3 else (1.0, 0.5)), number)
        assert spikes.trouble is None
    assert spikes.may_update(2.2, 1.0) is (policy == "warn")
    assert spikes.trouble
    assert spikes.trouble.text == "the loss 2.2 is 2.2 times the median 1 of the last 20"


def test_a_step_in_which_no_label_counts_ends_no_row() -> None:
    spikes = used("skip")
    for _ in range(MOST):
        assert not spikes.may_update(3.0, 1.0)
        assert spikes.may_update(0.0, 0.0)
    spikes.may_update(3.0, 1.0)
    assert spikes.trouble
    assert spikes.trouble.action == "stop"


def test_a_checkpoint_of_before_may_hold_them() -> None:
    spikes = Spikes("skip", 2.0, 50, ALONE)
    kept = [[n, 1.0 if n > 20 else 0.0] for n in range(1, 31)]
    spikes.go_back(30, {"losses": kept, "in_a_row": 0})
    assert spikes.may_update(1.5, 1.0, 31)
    assert not spikes.may_update(3.0, 1.0, 32)


def test_early_losses_are_no_measure() -> None:
    spikes = Spikes("stop", 2.0, 50, ALONE)
    assert all(spikes.may_update(loss, 1.0) for loss in (1.0, 5.0, 1.0, 9.0))


def test_after_going_back_only_the_losses_before_are_a_measure() -> None:
    spikes = Spikes("rewind", 2.0, 4, ALONE)
    for iteration, loss in enumerate((1.0, 1.1, 5.0, 6.0), 1):
        assert spikes.may_update(loss, 1.0, iteration)
    spikes.go_back(2, {})  # a checkpoint of before, without them
    assert spikes.may_update(1.2, 1.0, 3)
    assert spikes.may_update(1.3, 1.0, 4)
    assert not spikes.may_update(3.3, 1.0, 5)
    assert spikes.trouble
    assert "of the last 4" in spikes.trouble.text
    assert "median 1.15" in spikes.trouble.text


def test_a_checkpoint_brings_the_measure_back() -> None:
    """Into another process, and where the window has lost what it had then."""
    spikes = Spikes("skip", 2.0, 4, ALONE)
    for iteration, loss in enumerate((1.0, 1.1, 1.2, 1.3, 9.0), 1):
        assert spikes.may_update(loss, 1.0, iteration) is (loss < 9)
    kept = json.loads(json.dumps(spikes.state()))
    for iteration in range(6, 11):
        assert spikes.may_update(2.0, 1.0, iteration)
    for other in (spikes, Spikes("skip", 2.0, 4, ALONE)):
        other.go_back(5, kept)
        for iteration in range(6, 5 + MOST):
            assert not other.may_update(3.3, 1.0, iteration)
            assert other.trouble
            assert other.trouble.text.endswith("2.87 times the median 1.15 of the last 4")
            assert other.trouble.action == "skip"
        assert not other.may_update(3.3, 1.0, 5 + MOST)
        assert other.trouble
        assert other.trouble.action == "stop"  # with that of before the checkpoint, too many


def test_going_back_has_an_end() -> None:
    """Each time to a checkpoint from before the first of them."""
    spikes = used("rewind")
    kept = json.loads(json.dumps(spikes.state()))
    actions = []
    for _ in range(MOST + 1):
        spikes.may_update(math.nan, math.nan, 100)
        assert spikes.trouble
        actions.append(spikes.trouble.action)
        spikes.go_back(99, kept)
    assert actions == ["rewind"] * MOST + ["stop"]


def test_leaving_out_has_an_end() -> None:
    spikes = used("skip")
    for _ in range(MOST):
        spikes.may_update(math.nan, math.nan)
        assert spikes.trouble
        assert spikes.trouble.action == "skip"
    spikes.may_update(math.nan, math.nan)
    assert spikes.trouble
    assert spikes.trouble.action == "stop"


def test_trouble_on_one_rank_is_everyones() -> None:
    spikes = Spikes("skip", 2.0, 50, Ranks(0, 2, largest=lambda mine: max(mine, 2)))
    assert not spikes.may_update(1.0, 1.0)
    assert spikes.trouble
    assert spikes.trouble.action == "skip"
    assert "another rank" in spikes.trouble.text
