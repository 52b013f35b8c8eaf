"""Who is it that the others wait for? From the ranks' signs of life (heartbeat.py).

    listener = Listener(folder, ranks=range(8))
    seen = listener.listen()                        # {rank: Seen}, every few seconds
    if verdict := find_stopped(seen, 600, 600):     # Verdict(rank=3, host="nid7", text="…")
        …

Time is counted from when this rank saw a change, by its own clock: hosts' clocks differ.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from longseq.run.safety.heartbeat import Beat, read_beat


@dataclass(frozen=True)
class Seen:
    """A rank's last beat, if there ever was one, and the seconds since it changed."""

    beat: Beat | None
    silent: float


@dataclass(frozen=True)
class Verdict:
    """The rank that stopped, and all that is known about it; no host where none is at fault."""

    rank: int
    host: str
    text: str


class Listener:
    """Reads the files of some ranks, and remembers when each changed."""

    def __init__(self, folder: Path, ranks: Iterable[int]) -> None:
        now = time.monotonic()
        self._folder, self._looked = folder, now
        nothing: tuple[Beat | None, float, float] = (None, 0.0, now)  # beat, file's time, since
        self._last = dict.fromkeys(ranks, nothing)

    def listen(self, every: float = 1.0) -> dict[int, Seen]:
        """Look at all files. `every`: seconds between two looks; after a much longer gap (this
        process, or the whole machine, was asleep) nobody is blamed for it.
        """
        now = time.monotonic()
        asleep = now - self._looked > 10 * every
        self._looked = now
        for rank, (beat, changed, _) in self._last.items():
            found = read_beat(self._folder, rank)
            if found and (beat is None or (found[0].count, found[1]) != (beat.count, changed)):
                self._last[rank] = (*found, now)
            elif asleep:
                self._last[rank] = (beat, changed, now)
        return {rank: Seen(beat, now - since) for rank, (beat, _, since) in self._last.items()}


def find_stopped(seen: dict[int, Seen], silence: float, stuck: float) -> Verdict | None:
    """The rank that has given no sign of life for `silence` seconds, or has kept the others waiting
    for `stuck` seconds; None while there is none.

    Silent: its process is stopped, or its host is gone. Else, in a step, the one that does not wait
    while others do; where all wait, the one that is behind or elsewhere. Outside a step one rank
    may write or prepare for long while the others wait, so there nobody at all must move.
    """
    alive = {r: s for r, s in seen.items() if s.beat is None or s.beat.phase != "end"}
    quiet = [rank for rank, one in alive.items() if one.silent >= silence]
    if quiet:
        first = max(quiet, key=lambda rank: alive[rank].silent)
        return _verdict(first, alive, f"no sign of life for {alive[first].silent:.0f} s")
    beats = [one.beat for one in alive.values() if one.beat is not None]
    longest = max((b.still for b in beats if b.waits_in), default=0.0)
    if longest < stuck or len(beats) < max(2, len(alive)):
        return None
    if any(b.phase != "step" for b in beats) and any(b.still < stuck for b in beats):
        return None
    late = _late(beats)
    if late is None:
        text = f"all {len(beats)} ranks wait for each other in {_call(beats)[0]}: the network?"
        return Verdict(0, "", text)
    return _verdict(late.rank, alive, f"others have waited for it for {longest:.0f} s")


def _late(beats: list[Beat]) -> Beat | None:
    """The rank that the others wait for, if one can be told from them."""
    busy = [b for b in beats if not b.waits_in]
    if busy:
        return busy[0]
    last = max(b.step for b in beats)
    usual = _call(beats)
    odd = [b for b in beats if b.step < last] or [b for b in beats if _call([b]) != usual]
    return odd[0] if odd else None


def _call(beats: list[Beat]) -> tuple[str, str]:
    """The exchange that most of these wait in, and the line that calls it."""
    calls = Counter((b.waits_in, "".join(b.stack[-2:-1])) for b in beats)
    return calls.most_common(1)[0][0]


def _verdict(rank: int, seen: dict[int, Seen], what: str) -> Verdict:
    beat = seen[rank].beat
    if beat is None:
        return Verdict(rank, "", f"rank {rank} has not started: {what}")
    lines = [
        f"rank {rank} (process {beat.pid}) on {beat.host} has stopped: {what}, the last in"
        f" iteration {beat.step} ({beat.phase})"
    ]
    others = [s.beat for r, s in seen.items() if r != rank and s.beat and s.beat.waits_in]
    if others:
        name, line = _call(others)
        step = max(b.step for b in others)
        lines.append(
            f"it misses {name} of iteration {step}, where {len(others)} other rank(s) wait: {line}"
        )
    lines += ["its main thread was last here:", *(f"  {line}" for line in beat.stack)]
    return Verdict(rank, beat.host, "\n".join(lines))
