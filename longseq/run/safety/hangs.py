"""Who is it that the others wait for? From the ranks' signs of life (heartbeat.py).

    listener = Listener(folder, ranks=range(8))
    seen = listener.listen()                          # {rank: Seen}, every few seconds
    if verdict := find_stopped(seen, 600, 600, 600):  # Verdict(rank=3, host="nid7", text="…")
        …

Time is counted from when this rank saw a change, by its own clock: hosts' clocks differ.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from longseq.reports.runs import END
from longseq.run.safety.heartbeat import CLOSING, DEVICE, Beat, own_line, read_beat


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


def find_stopped(
    seen: dict[int, Seen], silence: float, stuck: float, device: float | None = None
) -> Verdict | None:
    """The rank that has given no sign of life for `silence` seconds, or has kept the others waiting
    for `stuck` seconds, or for `device` (`stuck`) where they wait for their GPUs; None while there
    is none.

    Ranks whose training is over are left out: one writes, the others wait, nothing hangs on it.

    Silent: its process is stopped, or its host is gone. Else, in a step, the one that does not wait
    while others do; where all wait, the one that is behind or elsewhere. Outside a step one rank
    may write or prepare for long while the others wait, so there nobody at all must move. Nor must
    anybody where ranks wait for GPUs only: these may have long kernels of their own.
    """
    alive = {r: s for r, s in seen.items() if s.beat is None or s.beat.phase not in (CLOSING, END)}
    quiet = [rank for rank, one in alive.items() if one.silent >= silence]
    if quiet:
        first = max(quiet, key=lambda rank: alive[rank].silent)
        return _verdict(first, alive, f"no sign of life for {alive[first].silent:.0f} s")
    beats = [one.beat for one in alive.values() if one.beat is not None]
    if len(beats) < max(2, len(alive)):
        return None
    device = stuck if device is None else device
    longest = max((b.still for b in beats if b.waits_in), default=0.0)
    exchange = max((b.still for b in beats if b.waits_in not in ("", DEVICE)), default=0.0)
    waits = any(b.waits_in == DEVICE for b in beats) and min(b.still for b in beats) >= device
    if exchange < stuck and not waits:
        return None
    if any(b.phase != "step" for b in beats) and any(b.still < stuck for b in beats):
        return None
    late = _late(beats)
    if late is None:
        where, line = _call(beats)
        text = f"all {len(beats)} ranks wait for each other in {where}: the network?"
        if any(b.waits_in == DEVICE for b in beats):
            text = (
                f"all {len(beats)} ranks have waited for their GPUs for {longest:.0f} s, most of"
                f" them here: {line}: the network, or a kernel longer than --hang-timeout?"
            )
        return Verdict(0, "", text)
    return _verdict(late.rank, alive, f"others have waited for it for {longest:.0f} s")


def _late(beats: list[Beat]) -> Beat | None:
    """The rank that the others wait for, if one can be told from them.

    Ranks that wait for their GPUs have given them work ahead, one a bit more than another: which of
    them is elsewhere says something only where it is alone.
    """
    busy = [b for b in beats if not b.waits_in]
    if busy:
        return busy[0]
    last = max(b.step for b in beats)
    behind = [b for b in beats if b.step < last]
    if behind:
        return behind[0]
    on_device = [b for b in beats if b.waits_in == DEVICE]
    usual = _call(beats)
    odd = [b for b in beats if _call([b]) != usual]
    if not on_device:
        return odd[0] if odd else None
    if len(on_device) == 1:  # the others wait in an exchange, for it
        return on_device[0]
    return odd[0] if len(odd) == 1 and len(beats) > 2 else None


def _call(beats: list[Beat]) -> tuple[str, str]:
    """The exchange that most of these wait in, and the line that calls it."""
    calls = Counter((b.waits_in, _line(b)) for b in beats)
    return calls.most_common(1)[0][0]


def _line(beat: Beat) -> str:
    return own_line(beat.stack) if beat.waits_in == DEVICE else "".join(beat.stack[-2:-1])


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
        misses = f"it misses {name} of iteration {step}, where {len(others)} other rank(s) wait"
        if name == DEVICE:
            misses = f"{len(others)} other rank(s) wait for their GPUs in iteration {step}"
        lines.append(f"{misses}: {line}")
    lines += ["its main thread was last here:", *(f"  {line}" for line in beat.stack)]
    return Verdict(rank, beat.host, "\n".join(lines))
