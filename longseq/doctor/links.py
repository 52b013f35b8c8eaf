"""Which hosts are slow, from what they exchanged in pairs.

    links = rates(nets)                     # {("alpha", "beta"): 11.8, …} GB/s, both names in order
    slow, fault = slow_hosts(hosts, links, least=0.01)

A host is as quick as the best of its links: behind a bad cable all are slow, and a good host is
slow only with the bad one.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LEAST = 0.01  # GB/s where nothing is known of the machine: less than Ethernet of 100 Mbit/s
OF_THE_OTHERS = 0.1  # a host below this part of the hosts' median is slow on any machine

Links = dict[tuple[str, str], float]


def rates(nets: Mapping[str, Iterable[Mapping[str, Any]]]) -> Links:
    """GB/s of each pair of hosts in one direction, all their ranks together.

    `nets`: what the ranks of each host found. Of the two ends the quicker counts: the other may
    have been kept waiting by something else.
    """
    sides: dict[tuple[str, str], list[float]] = defaultdict(list)
    for host, ranks in nets.items():
        ends: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for rank in ranks:
            for pair in rank.get("pairs", []):
                ends[pair["with"]].append(pair)
        for other, pairs in ends.items():
            whole = sum(pair["bytes"] for pair in pairs) / max(pair["seconds"] for pair in pairs)
            sides[min(host, other), max(host, other)].append(whole / 1e9)
    return {link: max(both) for link, both in sides.items()}


def best_of(host: str, links: Links) -> float | None:
    """The quickest link of a host; None: it met nobody."""
    return max((rate for link, rate in links.items() if host in link), default=None)


def slow_hosts(hosts: Sequence[str], links: Links, least: float) -> tuple[dict[str, str], str]:
    """Reasons by host, and one for all of them where no pair is quick enough."""
    if not links:
        return {}, ""
    top = max(links.values())
    if top < least:
        return {}, (
            f"no two hosts exchange {least:g} GB/s, the least here (LEAST_BANDWIDTH): the quickest"
            f" are {_named(links, top)} with {top:.3g}"
        )
    bests = {host: best for host in hosts if (best := best_of(host, links)) is not None}
    asked = max(least, OF_THE_OTHERS * statistics.median(bests.values()))
    slow = {}
    for host, best in bests.items():
        if best < asked:
            met = sum(host in link for link in links)
            slow[host] = (
                f"slow: at most {best:.3g} GB/s with each of {met} other(s), which reach {top:.3g}"
                f" without it; {asked:.3g} are asked (LEAST_BANDWIDTH)"
            )
    return slow, ""


def slowest_link(links: Links) -> str:
    """The slowest pair, in words."""
    rate = min(links.values())
    return f"{_named(links, rate)} with {rate:.3g} GB/s"


def _named(links: Links, rate: float) -> str:
    return " and ".join(next(link for link, found in links.items() if found == rate))
