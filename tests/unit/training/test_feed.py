"""Batches made a step ahead, as for a GPU, are those of the step, or they are dropped."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from longseq.config.checks import parse_config
from longseq.data.samples.batch import Batch
from longseq.parallel.mesh import Mesh
from longseq.training.feed import Feed, MicroBatch, noted

ZEROS = torch.zeros(2, 8)
FLAGS = "--seq-length 8 --micro-batch-size 2 --global-batch-size 4 --device cpu"


class Counted:
    """Samples whose tokens are their number, and how often they were asked for."""

    all_labels_count = True

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], int]] = []

    def batch(self, indices: list[int], spans: Any, length: int) -> Batch:
        self.asked.append((indices, length))
        tokens = torch.tensor(indices)[:, None].repeat(1, length)
        return Batch(tokens, tokens + 1, torch.ones(tokens.shape), tokens * 0, None)


class Uneven(Counted):
    """Of sample n the first n labels count half."""

    all_labels_count = False

    def batch(self, indices: list[int], spans: Any, length: int) -> Batch:
        made = super().batch(indices, spans, length)
        mask = torch.arange(length)[None] < torch.tensor(indices)[:, None]
        return replace(made, loss_mask=mask / 2)


def test_a_label_counts_as_much_in_every_micro_batch_of_a_step() -> None:
    samples: Any = Uneven()
    config = parse_config([*FLAGS.split(), "--micro-batch-size", "1"], 1)
    feed = Feed(samples, config, Mesh.single(), torch.device("cpu"))
    batches = list(feed.step(0))
    counted = (0 + 1 + 2 + 3) / 2
    assert [batch.weights.sum().item() for batch in batches] == pytest.approx(
        [4 * n / 2 / counted for n in range(4)]
    )
    assert [batch.mask.sum().item() for batch in batches] == [0, 0.5, 1, 1.5]


@pytest.mark.parametrize(("micro", "times"), [(1, 2), (4, 1)])
def test_uneven_ones_are_read_twice_where_they_are_several(micro: int, times: int) -> None:
    """No more than two shall be there, and the first one's share needs the last one's mask; a
    validation has no use for shares.
    """
    samples: Any = Uneven()
    config = parse_config([*FLAGS.split(), "--micro-batch-size", str(micro)], 1)
    feed = Feed(samples, config, Mesh.single(), torch.device("cpu"))
    count = 4 // micro
    assert len(list(feed.step(0))) == count
    assert len(samples.asked) == times * count
    masks = [batch.mask.sum().item() for batch in feed.judged(0)]
    assert (sum(masks), len(samples.asked)) == (3, (times + 1) * count)


def test_where_nothing_counts_the_loss_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Uneven, "batch", lambda *a: replace(Counted.batch(*a), loss_mask=ZEROS))
    samples: Any = Uneven()
    feed = Feed(samples, parse_config(FLAGS.split(), 1), Mesh.single(), torch.device("cpu"))
    assert [batch.weights.tolist() for batch in feed.step(0)] == [ZEROS.tolist()] * 2


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Feed:
    monkeypatch.setattr(Feed, "pinned", True)
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)  # which needs a GPU
    samples: Any = Counted()
    return Feed(samples, parse_config(FLAGS.split(), 1), Mesh.single(), torch.device("cpu"))


def tokens(batches: Any) -> list[list[list[int]]]:
    return [batch.tokens.tolist() for batch in batches if isinstance(batch, MicroBatch)]


def test_the_next_step_takes_them(feed: Feed) -> None:
    asked: Any = feed.samples
    feed.ahead(4, 3)
    assert asked.asked == [([4, 5], 3)]
    assert tokens(feed.step(4, 3)) == [[[4] * 3, [5] * 3], [[6] * 3, [7] * 3]]
    assert len(asked.asked) == 2
    assert tokens(feed.step(4, 3)) == [[[4] * 3, [5] * 3], [[6] * 3, [7] * 3]]  # a second time anew
    assert len(asked.asked) == 4


@pytest.mark.parametrize("other", [(0, 3), (8, 3), (4, 2), (4, 0)])
def test_another_step_makes_its_own(feed: Feed, other: tuple[int, int]) -> None:
    asked: Any = feed.samples
    feed.ahead(4, 3)
    first, length = other[0], other[1] or 8
    expected = [[[n] * length, [n + 1] * length] for n in (first, first + 2)]
    assert tokens(feed.step(*other)) == expected
    assert len(asked.asked) == 3
    feed.step(4, 3)  # and what was made ahead is gone
    assert tokens(feed.step(4, 3)) == [[[4] * 3, [5] * 3], [[6] * 3, [7] * 3]]


def test_a_whole_sample_is_its_length(feed: Feed) -> None:
    asked: Any = feed.samples
    feed.ahead(0)
    list(feed.step(0, 8))
    assert len(asked.asked) == 2


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("samples", [Counted, Uneven])
def test_no_more_are_there_than_one_and_the_next(
    feed: Feed, samples: type[Counted], ahead: bool
) -> None:
    """A sample of a million tokens is 28 MiB, and a step may have a hundred."""
    one: Any = samples()
    feed.samples, feed.equal = one, one.all_labels_count
    feed.config = parse_config([*FLAGS.split(), "--global-batch-size", "16"], 1)
    if ahead:
        feed.ahead(16)
    made: list[weakref.ref[Tensor]] = []
    for number, batch in enumerate(noted(feed.step(16), [])):
        made += [weakref.ref(x) for x in (batch.tokens, batch.labels, batch.mask)]
        assert [tensor() is not None for tensor in made] == [False] * 3 * number + [True] * 3
    assert len(made) == 3 * 8


def test_nothing_is_made_ahead_for_a_cpu(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Feed, "pinned", False)
    asked: Any = feed.samples
    feed.ahead(4, 3)
    assert asked.asked == []
