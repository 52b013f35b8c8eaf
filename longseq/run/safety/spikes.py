"""Is a step's loss, or its gradient, one that must not reach the weights?

    spikes = Spikes("skip", factor=2.0, window=50, ranks=ranks)
    if spikes.may_update(loss, norm):       # before each update, on every rank: they agree
        …
    kept = spikes.state()                   # into a checkpoint
    spikes.go_back(iteration, kept)         # to that, in this run or in one that goes on from it
    spikes.trouble                          # None, or Trouble("the loss 9.1 is …", "skip")

A spike is a loss above `factor` times the median of the last `window` ones. What is not a finite
number is worse: its update would destroy the weights, so under no policy is it made. Going back
(rewind) is the training's own work: here its update is left out, as by skip.

Where no label of a step counts (repeats of weight 0) its loss and norm are 0, which say nothing:
such a step is neither judged nor a measure for others, and ends no row of those left out.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longseq.parallel.agreement import Ranks

LEAST = 10  # losses before one can be called a spike
ACTIONS = ("", "warn", "skip", "rewind", "stop")  # the later, the graver
MOST = 10  # batches left out in a row: more than that is no accident of the data


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a step, and what is done about it: warn, skip, rewind or stop."""

    text: str
    action: str


class Spikes:
    """The policy of --on-spike, and the losses that it compares with."""

    def __init__(self, policy: str, factor: float, window: int, ranks: Ranks) -> None:
        self.policy, self.factor, self.ranks = policy, factor, ranks
        self.trouble: Trouble | None = None  # of the last step that was judged
        self.norm = math.nan
        self._losses: deque[tuple[int, float]] = deque(maxlen=window)
        self._in_a_row = 0

    def may_update(self, loss: float, norm: float, iteration: int = 0) -> bool:
        """Whether the update of this step may be made; a collective: the gravest action counts."""
        mine = self.judge(loss, norm)
        self.norm = norm
        worst = self.ranks.largest(ACTIONS.index(mine.action) if mine else 0)
        self.trouble = None
        if worst:
            text = mine.text if mine else "the loss or the gradient of another rank is no number"
            self.trouble = Trouble(text, ACTIONS[worst])
        made = ACTIONS[worst] in ("", "warn")
        if made and loss:
            self._losses.append((iteration, loss))
        return made

    def state(self) -> dict[str, Any]:
        """What the next step is judged by, in types that JSON holds."""
        return {"losses": list(self._losses), "in_a_row": self._in_a_row}

    def go_back(self, iteration: int, kept: Mapping[str, Any]) -> None:
        """Judge on as after this iteration, by what `state` gave there. Where that is not known, as
        of older checkpoints, forget the losses of later iterations: they come again.
        """
        if kept:
            self._losses.clear()
            # Older checkpoints hold the 0 of steps in which no label counts
            self._losses.extend((at, loss) for at, loss in kept["losses"] if loss)
            # Not fewer than now: else a run could go back for ever
            self._in_a_row = max(self._in_a_row, kept["in_a_row"])
        while self._losses and self._losses[-1][0] > iteration:
            self._losses.pop()

    def judge(self, loss: float, norm: float) -> Trouble | None:
        """What is wrong with this step, if anything, before its update."""
        if loss == norm == 0.0:
            return None
        text = _not_finite(loss, norm)
        finite = not text
        if finite and len(self._losses) >= min(LEAST, self._losses.maxlen or LEAST):
            usual = statistics.median(loss for _, loss in self._losses)
            if loss > self.factor * usual:
                text = f"{_far_above(loss, usual, self.factor)} of the last {len(self._losses)}"
        if not text:
            self._in_a_row = 0
            return None
        if self.policy == "warn":
            return Trouble(text, "warn" if finite else "stop")
        self._in_a_row += 1
        if self._in_a_row > MOST:
            return Trouble(f"{text}; {MOST} batches before it were left out already", "stop")
        return Trouble(text, self.policy)


def _far_above(loss: float, usual: float, factor: float) -> str:
    """With as many digits as show that the one is above `factor` times the other."""
    digits = 3
    while digits < 16 and float(f"{loss / usual:.{digits}g}") <= factor:
        digits += 1
    times, more = f"{loss / usual:.{digits}g}", digits + 1
    return f"the loss {loss:.{more}g} is {times} times the median {usual:.{more}g}"


def _not_finite(loss: float, norm: float) -> str:
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    return "" if math.isfinite(norm) else f"the gradient's norm is {norm}"
