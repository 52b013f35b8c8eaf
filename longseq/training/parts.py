"""What a step spends its time on: data, forward, backward, update.

    parts.begin()
    parts.ended("forward")        # since the mark before; as often as there are micro batches
    parts.seconds()               # once the step's results have been read back

On a GPU the marks are events in its stream, and what is read are those of the step before: they
have come by, while the update of this one may still run, and nothing waits for it. Messages
between ranks are in the part that waits for them.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import torch

PARTS = ("data", "forward", "backward", "update")


class Parts:
    """Marks of one step on a device."""

    def __init__(self, device: torch.device) -> None:
        self._events = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = []
        self._before: list[tuple[str, Any]] = []

    def begin(self) -> None:
        """A step begins."""
        self._before, self._marks = self._marks, []
        self.ended("")

    def ended(self, part: str) -> None:
        """What has run since the last mark was `part`."""
        if not self._events:
            self._marks.append((part, time.perf_counter()))
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append((part, event))

    def seconds(self) -> dict[str, float]:
        """Of each part, by the keys of metrics.jsonl; nothing after the first step of a GPU."""
        marks = self._before if self._events else self._marks
        found = dict.fromkeys((f"{part}_seconds" for part in PARTS), 0.0) if marks else {}
        for (_, before), (part, after) in itertools.pairwise(marks):
            took = before.elapsed_time(after) / 1000 if self._events else after - before
            found[f"{part}_seconds"] += took
        return found
