"""Which host is slow: simulated exchanges, whose rate each host's own cable limits."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from longseq.doctor.links import rates, slow_hosts
from longseq.doctor.network import rounds

HOSTS = [f"h{n}" for n in range(9)]
SIZE = 2**26


def exchanged(
    cables: dict[str, float], gpus: int = 1, most: int = 5
) -> dict[str, list[dict[str, Any]]]:
    """What the ranks of each host find, whose cables carry so many GB/s."""
    names = list(cables)
    nets: dict[str, list[dict[str, Any]]] = {
        name: [{"pairs": []} for _ in range(gpus)] for name in names
    }
    for partners in rounds(len(names), most):
        for name, other in zip(names, partners, strict=True):
            if other is None:
                continue
            seconds = gpus * SIZE / 1e9 / min(cables[name], cables[names[other]])
            for rank in nets[name]:
                rank["pairs"].append({"with": names[other], "bytes": SIZE, "seconds": seconds})
    return nets


@pytest.mark.parametrize("count", range(1, 10))
def test_all_meet_all_and_nobody_twice(count: int) -> None:
    met: list[tuple[int, ...]] = []
    for partners in rounds(count, 99):
        pairs = {(min(a, b), max(a, b)) for a, b in enumerate(partners) if b is not None}
        assert all(partners[b] == a != b for a, b in enumerate(partners) if b is not None)
        assert partners.count(None) == count % 2
        met += pairs
    assert sorted(met) == list(itertools.combinations(range(count), 2))


@pytest.mark.parametrize("count", range(3, 10))
@pytest.mark.parametrize("gpus", [1, 4])
def test_one_slow_host_among_many_is_named(count: int, gpus: int) -> None:
    for slow in range(count):
        cables = {name: 0.0025 if n == slow else 12.5 for n, name in enumerate(HOSTS[:count])}
        links = rates(exchanged(cables, gpus))
        named, fault = slow_hosts(list(cables), links, 0.01)
        assert (list(named), fault) == ([HOSTS[slow]], "")
        assert "at most 0.0025 GB/s" in named[HOSTS[slow]]
        assert "reach 12.5" in named[HOSTS[slow]]


def test_a_rate_is_that_of_all_gpus_of_a_host() -> None:
    links = rates(exchanged({"a": 100.0, "b": 20.0}, gpus=8))
    assert links == {("a", "b"): pytest.approx(20.0)}


def test_a_floor_is_the_machines_or_a_tenth_of_the_others() -> None:
    cables = {"a": 50.0, "b": 50.0, "c": 50.0, "d": 4.0}
    links = rates(exchanged(cables))
    assert list(slow_hosts(list(cables), links, 10.0)[0]) == ["d"]
    assert list(slow_hosts(list(cables), links, 0.01)[0]) == ["d"]
    quicker = rates(exchanged(cables | {"d": 6.0}))
    assert slow_hosts(list(cables), quicker, 0.01) == ({}, "")


def test_two_slow_hosts_among_six() -> None:
    cables = dict.fromkeys(HOSTS[:6], 10.0) | {"h1": 0.1, "h4": 0.2}
    assert list(slow_hosts(HOSTS[:6], rates(exchanged(cables)), 0.01)[0]) == ["h1", "h4"]


@pytest.mark.parametrize("cables", [{"a": 5.0, "b": 0.0025}, dict.fromkeys("abcd", 2.0)])
def test_where_no_pair_is_quick_enough_no_host_is_blamed(cables: dict[str, float]) -> None:
    """Of two hosts either may be at fault; and a whole network may have fallen back to TCP."""
    named, fault = slow_hosts(list(cables), rates(exchanged(cables)), 10.0)
    assert named == {}
    assert "no two hosts exchange 10 GB/s" in fault
    assert fault.count(" and ") == 1
